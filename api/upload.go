package api

import (
	"bytes"
	"compress/gzip"
	"crypto/sha256"
	"crypto/subtle"
	"encoding/base64"
	"errors"
	"fmt"
	"hash"
	"io"
	"net"
	"strings"
	"time"

	"github.com/discreet-analytics/discreet/dp"
	"github.com/valyala/fasthttp"
)

// upload is a body of rows on its way in. What it reads may end early and cleanly; only verify tells whether
// all of it came.
type upload struct {
	body    *body
	request *fasthttp.RequestHeader

	announced string       // Content-Digest of the headers; empty where a trailer will bring it
	nothing   string       // what became of a body that was refused
	still     func() error // refuses who may not send any more
	looked    time.Time    // when it was last asked
	hash      hash.Hash
	max       int64
}

// open begins to read: as sent, or decompressed. A chunked body must say how its end can be checked.
func (u *upload) open(digest string, compressed bool, limit int64) (io.Reader, error) {
	if u.body.r == nil || u.body.want == 0 {
		return nil, &dp.Error{Code: dp.CodeInvalidInput, Message: "The body is empty: " + u.nothing + ". Send what it should hold."}
	}
	if u.body.want > limit {
		return nil, u.tooLarge(limit)
	}
	if digest != "" {
		if _, err := parseDigest(digest); err != nil {
			return nil, err
		}
	} else if u.body.want < 0 && !announces(u.request.Peek("Trailer"), "Content-Digest") {
		return nil, newProblem(codeLengthRequired, "Send Content-Length, or Content-Digest with the body's sha-256 as a header or as an announced trailer: otherwise a body that was cut would pass for a whole one.")
	}
	u.announced, u.hash, u.max = digest, sha256.New(), limit
	if !compressed {
		return u, nil
	}
	z, err := gzip.NewReader(u)
	if err != nil {
		return nil, u.say(err)
	}
	return &inflated{gzip: z, upload: u, left: limit}, nil
}

// Read reads the body as it was sent.
func (u *upload) Read(p []byte) (int, error) {
	if now := time.Now(); now.Sub(u.looked) >= lookAgain {
		if err := u.still(); err != nil {
			return 0, err
		}
		u.looked = now
	}
	n, err := u.body.Read(p)
	u.hash.Write(p[:n])
	if u.body.got > u.max {
		return 0, u.tooLarge(u.max)
	}
	if err != nil && !errors.Is(err, io.EOF) {
		return n, u.say(err)
	}
	return n, err
}

// lookAgain is how often it is looked whether who was let in, to send or to read, still is.
const lookAgain = 2 * time.Second

// verify tells whether all of the body came, once it was read to its end, and whether its sender, who chose how long that
// took, may still send it.
func (u *upload) verify() error {
	if err := u.whole(); err != nil {
		return err
	}
	return u.still()
}

// whole tells whether all of the body came.
func (u *upload) whole() error {
	if !u.body.ended {
		// A reader may stop at the end of its format; the end of the body must still be seen.
		if n, err := io.Copy(io.Discard, u); err != nil {
			return u.say(err)
		} else if n > 0 {
			return &dp.Error{Code: dp.CodeInvalidInput, Message: "Something follows the end of the body: " + u.nothing + "."}
		}
	}
	if !u.body.complete() {
		return &dp.Error{Code: dp.CodeInvalidInput, Message: fmt.Sprintf("The upload was cut: %d of %d bytes came, and %s. Send it again.", u.body.got, u.body.want, u.nothing)}
	}
	digest := u.announced
	if digest == "" {
		if u.body.want >= 0 {
			return nil
		}
		digest = string(u.request.Peek("Content-Digest")) // the trailer has been read with the end
		if digest == "" {
			return &dp.Error{Code: dp.CodeInvalidInput, Message: "The trailer Content-Digest did not come: the upload was cut, and " + u.nothing + ". Send it again."}
		}
	}
	want, err := parseDigest(digest)
	if err != nil {
		return err
	}
	if subtle.ConstantTimeCompare(want, u.hash.Sum(nil)) != 1 {
		return &dp.Error{Code: dp.CodeInvalidInput, Message: "The body is not the one that Content-Digest was made of: it was cut or changed, and " + u.nothing + ". Send it again."}
	}
	return nil
}

// say words why reading failed.
func (u *upload) say(err error) error {
	var known *dp.Error
	var mapped *problem
	var timeout net.Error
	switch {
	case errors.As(err, &known), errors.As(err, &mapped):
		return err
	case errors.As(err, &timeout) && timeout.Timeout(), errors.Is(err, fasthttp.ErrTimeout):
		return newProblem(codeRequestTimeout, "Nothing came for too long, and "+u.nothing+": send it again.")
	case errors.Is(err, gzip.ErrHeader), errors.Is(err, gzip.ErrChecksum):
		return &dp.Error{Code: dp.CodeInvalidInput, Message: "The body is not gzip, though Content-Encoding says so: " + u.nothing + "."}
	}
	return &dp.Error{Code: dp.CodeInvalidInput, Message: "The upload was cut, and " + u.nothing + ": send it again.", Err: err}
}

// inflated reads a compressed body, up to a limit of what comes out: a small body can hold a large one.
type inflated struct {
	gzip   *gzip.Reader
	upload *upload
	left   int64
}

func (i *inflated) Read(p []byte) (int, error) {
	n, err := i.gzip.Read(p)
	if i.left -= int64(n); i.left < 0 {
		return 0, i.upload.tooLarge(i.upload.max)
	}
	if err != nil && !errors.Is(err, io.EOF) {
		return n, i.upload.say(err)
	}
	return n, err
}

func (u *upload) tooLarge(limit int64) error {
	return &dp.Error{Code: dp.CodeTooLarge, Message: fmt.Sprintf("The body is larger than %d bytes: %s. Send it in several parts, rows in loads of whole blocks.", limit, u.nothing)}
}

// parseDigest finds the sha-256 in a Content-Digest field (RFC 9530, a dictionary of byte sequences).
func parseDigest(field string) ([]byte, error) {
	for member := range strings.SplitSeq(field, ",") {
		name, value, _ := strings.Cut(strings.TrimSpace(member), "=")
		if strings.TrimSpace(name) != "sha-256" {
			continue
		}
		value, opened := strings.CutPrefix(strings.TrimSpace(value), ":")
		value, closed := strings.CutSuffix(value, ":")
		digest, err := base64.StdEncoding.DecodeString(value)
		if opened && closed && err == nil && len(digest) == sha256.Size {
			return digest, nil
		}
	}
	p := newProblem(dp.CodeInvalidInput, "Send Content-Digest as RFC 9530 has it: sha-256=:BASE64:, of the body as sent.")
	p.at("header.Content-Digest", "holds no sha-256")
	return nil, p
}

// announces tells whether a Trailer header lists a field.
func announces(trailer []byte, field string) bool {
	for name := range bytes.SplitSeq(trailer, []byte(",")) {
		if strings.EqualFold(string(bytes.TrimSpace(name)), field) {
			return true
		}
	}
	return false
}
