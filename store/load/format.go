package load

import (
	"mime"
	"path"
	"strings"

	"github.com/discreet-analytics/discreet/dp"
)

// Format is how rows are written.
type Format string

// The formats.
const (
	CSV    Format = "csv"    // RFC 4180, comma-separated, with a header
	NDJSON Format = "ndjson" // one JSON object per line
	// Parquet is Apache Parquet, not encrypted: one value per row in the columns that the policy names.
	Parquet Format = "parquet"
)

// ParseFormat understands the name of a format, a media type such as "text/csv; charset=utf-8", and the
// name of a file such as rows.ndjson or rows.csv.gz (whether it is compressed is for the caller to say).
// What is not understood is a *dp.Error with CodeInvalidInput.
func ParseFormat(text string) (Format, error) {
	name := strings.ToLower(strings.TrimSpace(text))
	if media, parameters, err := mime.ParseMediaType(name); err == nil {
		switch media {
		case "text/csv", "application/csv":
			return CSV, checkCharset(parameters["charset"])
		case "application/x-ndjson", "application/ndjson", "application/jsonl", "application/x-jsonlines":
			return NDJSON, checkCharset(parameters["charset"])
		case "application/vnd.apache.parquet", "application/x-parquet":
			return Parquet, nil
		}
	}
	if extension := path.Ext(strings.TrimSuffix(name, ".gz")); extension != "" {
		name = extension[1:]
	}
	switch name {
	case "csv":
		return CSV, nil
	case "ndjson", "jsonl":
		return NDJSON, nil
	case "parquet":
		return Parquet, nil
	}
	return "", errUnknownFormat()
}

func checkCharset(charset string) error {
	if charset != "" && charset != "utf-8" && charset != "us-ascii" {
		return refuse(dp.CodeInvalidInput, "rows must be UTF-8: convert them and send charset=utf-8")
	}
	return nil
}

func errUnknownFormat() error {
	return refuse(dp.CodeInvalidInput, "format not understood: rows must be CSV (text/csv, .csv), NDJSON (application/x-ndjson, .ndjson, .jsonl) or Parquet (application/vnd.apache.parquet, .parquet)")
}
