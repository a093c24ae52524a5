package ledger

import (
	"context"
	"crypto/sha256"
	"fmt"
	"slices"
	"strconv"
	"strings"

	"golang.org/x/mod/sumdb/tlog"

	"github.com/discreet-analytics/discreet/dp"
)

// AuditLines lists the entries that a filter admits, the newest first unless it says otherwise, and how many entries
// the log has. A page looks at Limits.Looked entries at most, and may end before it is full; next is empty once there are no more to look at. An unknown
// cursor is CodeInvalidInput.
func (l *Ledger) AuditLines(ctx context.Context, f dp.AuditFilter, cursor string, limit int) (lines []dp.AuditLine, next string, size uint64, err error) {
	if limit <= 0 || limit > l.limits.Page {
		limit = l.limits.Page
	}
	err = l.read(ctx, func(v view) error {
		if size, err = v.length(); err != nil {
			return err
		}
		direction, start := descending, size
		if f.OldestFirst {
			direction, start = ascending, 1
		}
		if cursor != "" {
			start, err = strconv.ParseUint(cursor, 10, 64)
			if err != nil || start < 1 || start > size {
				return refuse(dp.CodeInvalidInput, "this cursor is not one that was handed out: begin again without it")
			}
		}
		looked := 0
		return v.walk([]byte{kindEntry}, entryKey(start), direction, func(key, value []byte) (bool, error) {
			if looked == l.limits.Looked || len(lines) == limit {
				next = strconv.FormatUint(numberOf(key), 10)
				return false, nil
			}
			looked++
			value, err := l.entries.open(numberOf(key), value)
			if err != nil {
				return false, err
			}
			e, err := decodeEntry(value)
			if err != nil {
				return false, fmt.Errorf("entry %d of the ledger cannot be read: %w", numberOf(key), errLost)
			}
			if !f.From.IsZero() && e.at.Before(f.From) || !f.To.IsZero() && !e.at.Before(f.To) {
				return true, nil
			}
			line, err := v.line(e)
			if err != nil || !admits(f, &line) {
				return true, err
			}
			line.Bytes, line.Hash = len(value), tlog.RecordHash(value)
			lines = append(lines, line)
			return true, ctx.Err()
		})
	})
	if err != nil {
		return nil, "", 0, err
	}
	return lines, next, size, nil
}

// admits tells whether a filter admits a line, and leaves of its events those that the filter is for.
func admits(f dp.AuditFilter, line *dp.AuditLine) bool {
	if len(line.Events) > 0 {
		line.Events = slices.DeleteFunc(line.Events, func(e dp.AuditEvent) bool {
			return f.Consumer != "" && e.Consumer != f.Consumer || f.Dataset != "" && e.Dataset != f.Dataset ||
				f.Kind != "" && f.Kind != line.Kind && string(e.Kind) != f.Kind
		})
		return len(line.Events) > 0
	}
	if f.Kind != "" && line.Kind != f.Kind {
		return false
	}
	if f.Dataset != "" && !slices.Contains(line.Datasets, f.Dataset) {
		return false
	}
	return f.Consumer == "" || line.Actor == f.Consumer ||
		slices.ContainsFunc(line.Charges, func(c dp.AuditCharge) bool { return c.Consumer == f.Consumer }) ||
		slices.ContainsFunc(line.Objects, func(o dp.AuditObject) bool {
			return o.Kind == "consumer" && o.Name == f.Consumer || o.Kind == "allotment" && strings.HasPrefix(o.Name, f.Consumer+"/")
		})
}

// line reads what an entry says for people: from what it wrote, as far as that is still there.
func (v view) line(e chainEntry) (dp.AuditLine, error) {
	line := dp.AuditLine{Index: e.number - 1, At: e.at, Kind: string(e.kind)}
	for _, w := range e.writes {
		if err := v.tell(&line, e.kind, w); err != nil {
			return line, err
		}
	}
	slices.Sort(line.Datasets)
	line.Datasets = slices.Compact(line.Datasets)
	return line, nil
}

// tell adds what one write says.
func (v view) tell(line *dp.AuditLine, kind entryKind, w entryWrite) error {
	about := func(kind, name string, version uint64) {
		o := dp.AuditObject{Kind: kind, Name: name, Version: version}
		if !slices.Contains(line.Objects, o) {
			line.Objects = append(line.Objects, o)
		}
	}
	parts := partsOf(w.key)
	switch w.key[0] {
	case kindCharge:
		return v.tellCharge(line, kind, parts[0], w)
	case kindRelease:
		about("release", parts[0], 0)
	case kindPending, kindLoad:
		line.Datasets = append(line.Datasets, parts[0])
		about("load", parts[0], numberOf(w.key))
	case kindErasure:
		r, err := written[erasureRecord](v, line, w)
		line.Actor, line.Datasets = r.By, append(line.Datasets, parts[0])
		about("erasure", parts[1], 0)
		return err
	case kindErasureEnd:
		line.Datasets = append(line.Datasets, parts[0])
		about("erasure", parts[1], 0)
	case kindRetired:
		r, err := written[retirementRecord](v, line, w)
		month := r.Before
		if kind == entryRetireEnd {
			month = r.Gone
		}
		line.Datasets = append(line.Datasets, parts[0])
		about("retirement", month, r.PolicyVersion)
		return err
	case kindReport, kindReportEnd:
		about("report", parts[0], 0)
		r, err := mustLoad[reportRecord](v, reportKey(parts[0]))
		line.Actor = r.Consumer
		return err
	case kindRun:
		about("run", parts[0], numberOf(w.key))
		r, err := mustLoad[reportRecord](v, reportKey(parts[0]))
		line.Actor = r.Consumer
		return err
	case kindChange:
		r, err := written[changeRecord](v, line, w)
		line.Actor, line.Reason = r.Actor, r.Reason
		for _, c := range r.Changed {
			about(c.Kind, c.Name, c.Version)
			switch _, dataset, both := strings.Cut(c.Name, "/"); {
			case c.Kind == "allotment" && both:
				line.Datasets = append(line.Datasets, dataset)
			case c.Kind == "policy" || c.Kind == "write-off":
				line.Datasets = append(line.Datasets, c.Name)
			}
		}
		return err
	case kindKey:
		r, err := written[dp.Key](v, line, w)
		about("consumer", r.Consumer, 0) // whose it is
		return err
	case kindRequest, kindRequestEnd:
		r, err := mustLoad[requestRecord](v, requestKey(parts[0]))
		line.Datasets = append(line.Datasets, r.Dataset)
		about("consumer", r.Consumer, 0)
		return err
	case kindProposal, kindProposalEnd:
		p, err := mustLoad[proposalRecord](v, proposalKey(parts[0]))
		switch c := p.Change; {
		case c.Policy != nil:
			line.Datasets = append(line.Datasets, c.Policy.After.Name)
		case c.Allotment != nil:
			line.Datasets = append(line.Datasets, c.Allotment.After.Dataset)
			about("consumer", c.Allotment.After.Consumer, 0)
		case c.Consumer != nil:
			about("consumer", c.Consumer.After.Name, 0)
		case c.Key != nil:
			about("consumer", c.Key.Consumer, 0)
		}
		return err
	case kindRestore:
		r, err := written[Restored](v, line, w)
		about("backup", r.Backup, r.Length)
		return err
	case kindEvents:
		r, err := written[eventsRecord](v, line, w)
		line.Events, line.Lost = r.Events, r.Lost
		for _, e := range r.Events {
			if e.Dataset != "" {
				line.Datasets = append(line.Datasets, e.Dataset)
			}
		}
		return err
	}
	return nil
}

// tellCharge adds what an entry did about a charge. What it costs and whom never changes, so that it is read from the
// charge as it stands where the entry holds only a digest of what was written over since.
func (v view) tellCharge(line *dp.AuditLine, kind entryKind, id string, w entryWrite) error {
	current, err := mustLoad[chargeRecord](v, chargeKey(id))
	if err != nil {
		return err
	}
	line.Actor = current.Charge.Consumer
	line.Objects = append(line.Objects, dp.AuditObject{Kind: "charge", Name: id})
	line.Datasets = append(line.Datasets, current.Charge.Dataset)
	for _, also := range current.Charge.Also {
		line.Datasets = append(line.Datasets, also.Dataset)
	}
	switch kind {
	case entryCharge, entryReport, entryRun:
		line.Charges = append(line.Charges, dp.AuditCharge{Charge: current.Charge, Purpose: current.Purpose, Source: current.Source})
		if current.Source != "" {
			line.Objects = append(line.Objects, dp.AuditObject{Kind: "release", Name: current.Source})
		}
	case entryOutcome, entrySettle, entryReportEnd: // after which a charge does not change
		if current.Failure != nil {
			line.Failure = current.Failure.Code
		}
	}
	return nil
}

// written is the record of a write. Where only its digest is left the line says so, and the record is empty.
func written[T any](v view, line *dp.AuditLine, w entryWrite) (record T, err error) {
	value := w.value
	if w.op == opDigest {
		if value, err = v.get(w.key); err != nil {
			return record, err
		}
		if uint64(len(value)) != w.length || sha256.Sum256(value) != [sha256.Size]byte(w.digest) {
			line.Partial = true
			return record, nil
		}
	}
	if w.op == opDelete {
		return record, nil
	}
	return decode[T](value)
}
