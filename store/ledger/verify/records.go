package verify

import (
	"bytes"
	"crypto/sha256"
	"encoding/binary"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"io"
	"math"
	"slices"
	"time"
)

// The records, as store/FORMAT.md describes them. They are declared once more here, so that what the ledger
// writes and what is read here agree in nothing but the bytes.

const recordVersion = 1

// format is the version of the ledger's keys and records that is read here.
const format = 3

type metaRecord struct {
	Format   int
	ID       string // 32 hexadecimal digits
	Openings uint64
	Secrets  []byte
}

type datasetRecord struct {
	PolicyVersion uint64
	Cap           budget
	Loads         uint64
	LoadedUnder   uint64
	WrittenOff    []writtenOff
}

// writtenOff is what a write-off adds to every account of the blocks up to Through.
type writtenOff struct {
	Through    string
	Cap        loss
	Allotments loss
}

// policyRecord is what matters here of a policy.
type policyRecord struct {
	Name       string
	Population int64
	Unit       struct {
		Column string
		Row    bool
		Block  string
	}
	Time       *struct{ Column, Timezone string }
	Dimensions []struct{ Name, Type string }
	Measures   []struct {
		Name  string
		Scale int
	}
	Cap       budget
	Link      *struct{ Consent string }
	Purposes  []string
	Audiences []string
	TwoPerson bool
	// RetainMonths is how long rows are kept after their block has ended; 0: for ever.
	RetainMonths int
	Version      uint64

	text []byte // all of it, as JSON
}

type pendingRecord struct {
	Name          string
	Blocks        []string
	PolicyVersion uint64
	At            time.Time
}

type loadRecord struct {
	ID        uint64
	Dataset   string
	Name      string
	Digest    [sha256.Size]byte
	Blocks    []string
	Committed time.Time
}

type blockVersionRecord struct {
	Load, Repeat uint64
}

type blockVersion struct {
	Block   string
	Version uint64
}

// paid is a charge as its record and its release state it.
type paid struct {
	ID       string
	Consumer string
	Dataset  string
	Blocks   []string
	Loss     loss
	CapLoss  loss
	Also     []touched `json:",omitempty"`
	At       time.Time
}

// touched are blocks of one dataset that a charge touches at one price.
type touched struct {
	Dataset       string
	PolicyVersion uint64
	Blocks        []string
	Loss          loss
}

func (t touched) equal(o touched) bool {
	return t.Dataset == o.Dataset && t.PolicyVersion == o.PolicyVersion && t.Loss == o.Loss && slices.Equal(t.Blocks, o.Blocks)
}

type snapshot struct {
	Dataset       string
	PolicyVersion uint64
	Blocks        []blockVersion
	Also          []snapshot `json:",omitempty"`
}

func (s snapshot) equal(o snapshot) bool {
	return s.Dataset == o.Dataset && s.PolicyVersion == o.PolicyVersion && slices.Equal(s.Blocks, o.Blocks) && slices.EqualFunc(s.Also, o.Also, snapshot.equal)
}

// chargeRecord has its fields in the order in which they are written: encodeRecord gives the same bytes.
type chargeRecord struct {
	Number   uint64
	Charge   paid
	Purpose  string
	Plan     string
	Snapshot snapshot
	Source   string
	Report   string `json:",omitempty"`

	Attempts int
	Lease    time.Time
	Opening  uint64

	Release string
	Metrics []string
	Failure json.RawMessage
}

// part is one of the prices of a charge, and the rows that it is for.
type part struct {
	touched
	at snapshot // without further parts
}

// parts are all prices of a charge: that of the blocks which its question is about, and of those which it touches
// besides. Its snapshot has one for each.
func (c *chargeRecord) parts() []part {
	about := c.Snapshot
	about.Also = nil
	list := []part{{touched{c.Charge.Dataset, c.Snapshot.PolicyVersion, c.Charge.Blocks, c.Charge.Loss}, about}}
	for i, t := range c.Charge.Also {
		list = append(list, part{t, c.Snapshot.Also[i]})
	}
	return list
}

func (c *chargeRecord) failed() bool { return len(c.Failure) > 0 && string(c.Failure) != "null" }
func (c *chargeRecord) ended() bool  { return c.Release != "" || c.failed() }

// unended is the charge without its outcome.
func (c chargeRecord) unended() chargeRecord {
	if c.Source == "" { // one that was handed out has its outcome from the beginning
		c.Release, c.Metrics = "", nil
	}
	c.Failure = nil
	return c
}

// identity covers all that never changes about a charge.
func (c chargeRecord) identity() ([sha256.Size]byte, error) {
	c = c.unended()
	c.Attempts, c.Lease, c.Opening = 0, time.Time{}, 0
	text, err := encodeRecord(c)
	return sha256.Sum256(text), err
}

// begins tells whether a charge is as it is first written: with its first attempt or, as a report's question that
// waits for its turn, before it.
func (c chargeRecord) begins() bool {
	if c.waits() {
		return c.Attempts == 0 && c.Lease.IsZero()
	}
	return c.Attempts == 1
}

// waits tells whether a charge is made before its first attempt.
func (c chargeRecord) waits() bool { return c.Report != "" && c.Source == "" }

// reportRecord is a batch of questions. Spec and Body mean nothing to an account.
type reportRecord struct {
	Number    uint64
	Consumer  string
	Name      string
	Spec      []byte
	Body      []byte
	Scheduled bool
	Created   time.Time
}

type reportEndRecord struct {
	At time.Time
}

// runRecord is one time that a report's questions were asked.
type runRecord struct {
	Block   string
	At      time.Time
	Refused json.RawMessage
	Parts   []partRecord
}

// partRecord is one question: Charge pays for it, or Release was held already.
type partRecord struct {
	Name    string
	Query   json.RawMessage
	Charge  string
	Release string
}

type idempotencyRecord struct {
	Charge string
	Body   []byte
}

type releaseRecord struct {
	Number  uint64
	Charge  string
	Blob    string
	Bytes   int64
	Sum     []byte
	Summary json.RawMessage
}

// answerRecord is what matters here of a release and of its summary.
type answerRecord struct {
	ID            string
	Dataset       string
	PolicyVersion uint64
	Plan          string
	Metrics       []string
	Charge        paid
	Blocks        []blockVersion
	Also          []snapshot
}

type unfinishedRecord struct {
	Blob   string
	Pieces int
}

type holderRecord struct {
	Number uint64
	Charge string
}

type drawRecord struct {
	Release  string
	Versions []byte
}

// consumerRecord is what matters here of a consumer.
type consumerRecord struct {
	Name      string
	Role      string
	Audience  string
	Purposes  []string
	Suspended bool
	Created   time.Time
	Version   uint64
	Subject   string

	text []byte // all of it, as JSON
}

type keyRecord struct {
	ID       string
	Consumer string
	Hash     [sha256.Size]byte
	Created  time.Time
	Expires  time.Time
	Revoked  time.Time
	Under    string `json:",omitempty"`
}

type allotmentRecord struct {
	Consumer           string
	Dataset            string
	Budget             budget
	MaxEpsilonPerQuery int64
	Expires            time.Time
	Paused             bool
	Version            uint64
}

func (a allotmentRecord) equal(b allotmentRecord) bool {
	until := a.Expires.Equal(b.Expires)
	a.Expires = b.Expires
	return until && a == b
}

// terms are what a request asks for, and what a grant gives.
type terms struct {
	Budget             budget
	MaxEpsilonPerQuery int64
	Expires            time.Time
}

func (t terms) of(a allotmentRecord) bool {
	return t.Budget == a.Budget && t.MaxEpsilonPerQuery == a.MaxEpsilonPerQuery && t.Expires.Equal(a.Expires)
}

// requestRecord is a request for an allotment. Query means nothing to an account.
type requestRecord struct {
	Number   uint64
	Consumer string
	Dataset  string
	Asked    terms
	Reason   string
	Query    json.RawMessage `json:",omitempty"`
	Made     time.Time
}

// requestEndRecord is how a request ended.
type requestEndRecord struct {
	State     string
	By        string
	At        time.Time
	Reason    string
	Seen      uint64
	Granted   *terms
	Allotment uint64
}

// proposalRecord is a change that waits for a second officer. What would change is kept as it was written.
type proposalRecord struct {
	Number  uint64
	By      string
	Reason  string
	Made    time.Time
	Expires time.Time
	Change  struct {
		Policy    *struct{ After json.RawMessage } `json:",omitempty"`
		Allotment *struct {
			Before  json.RawMessage `json:",omitempty"`
			After   json.RawMessage
			Request string `json:",omitempty"`
		} `json:",omitempty"`
		Consumer *struct {
			Before json.RawMessage `json:",omitempty"`
			After  json.RawMessage
		} `json:",omitempty"`
		Key json.RawMessage `json:",omitempty"`
	}

	id string // where it is kept
}

// proposalEndRecord is how a proposal ended.
type proposalEndRecord struct {
	State  string
	By     string
	At     time.Time
	Reason string
}

type changeRecord struct {
	At      time.Time
	Actor   string
	Reason  string
	Changed []changedObject
}

type changedObject struct {
	Kind    string
	Name    string
	Version uint64
}

// accountRecord is what the charges of an account add up to.
type accountRecord struct {
	spent   loss
	charges uint64
}

// reading says whether a record may have fields that are not declared here.
type reading bool

const (
	whole reading = true  // records of the ledger alone
	parts reading = false // records whose further fields mean nothing to an account
)

// decodeRecord reads a record: its version and its JSON, and nothing after it.
func decodeRecord[T any](value []byte, r reading) (record T, err error) {
	if len(value) == 0 || value[0] != recordVersion {
		return record, errMalformed
	}
	d := json.NewDecoder(bytes.NewReader(value[1:]))
	if r == whole {
		d.DisallowUnknownFields()
	}
	if err := d.Decode(&record); err != nil {
		return record, errMalformed // without the decoder's words, which quote the record
	}
	if _, err := d.Token(); err != io.EOF {
		return record, errMalformed
	}
	return record, nil
}

var errMalformed = misfit("a record that it wrote is malformed")

func encodeRecord(record any) ([]byte, error) {
	text, err := json.Marshal(record)
	if err != nil {
		return nil, fmt.Errorf("encoding a record: %w", err)
	}
	return append([]byte{recordVersion}, text...), nil
}

func decodeNumber(value []byte) (uint64, error) {
	if len(value) != 1+numberBytes || value[0] != recordVersion {
		return 0, errMalformed
	}
	return binary.BigEndian.Uint64(value[1:]), nil
}

func encodeNumber(n uint64) []byte { return binary.BigEndian.AppendUint64([]byte{recordVersion}, n) }

func decodeAccount(value []byte) (accountRecord, error) {
	const fields = 5
	if len(value) != 1+fields*numberBytes || value[0] != recordVersion {
		return accountRecord{}, errMalformed
	}
	var f [fields]int64
	for i := range f {
		n := binary.BigEndian.Uint64(value[1+i*numberBytes:])
		if n > math.MaxInt64 {
			return accountRecord{}, errMalformed
		}
		f[i] = int64(n)
	}
	return accountRecord{loss{f[0], f[1], f[2], f[3]}, uint64(f[4])}, nil
}

// digestOf identifies the rows of all blocks of a snapshot as they stood. A zero byte, which is no length of a block's
// name, begins each further part.
func digestOf(s snapshot) [sha256.Size]byte {
	h := sha256.New()
	name := func(text string) {
		h.Write(binary.AppendUvarint(nil, uint64(len(text))))
		h.Write([]byte(text))
	}
	versions := func(list []blockVersion) {
		for _, v := range list {
			name(v.Block)
			h.Write(binary.BigEndian.AppendUint64(nil, v.Version))
		}
	}
	versions(s.Blocks)
	for _, p := range s.Also {
		h.Write([]byte{0})
		name(p.Dataset)
		versions(p.Blocks)
	}
	return [sha256.Size]byte(h.Sum(nil))
}

// parseID reads the id of a ledger.
func parseID(text string) (id [16]byte, err error) {
	b, err := hex.DecodeString(text)
	if err != nil || len(b) != len(id) {
		return id, misfitf("the ledger's id is malformed")
	}
	return [16]byte(b), nil
}
