package ledger

import (
	"bytes"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"math"
	"time"

	"github.com/discreet-analytics/discreet/dp"
)

// metaRecord is about the ledger as a whole.
type metaRecord struct {
	Format   int
	ID       string // of the ledger, 32 hexadecimal digits
	Openings uint64
	Secrets  []byte // fingerprint of the secrets that the data was written with; empty while unknown
}

// datasetRecord is what charges and loads need of a dataset, without its policy's lists.
type datasetRecord struct {
	PolicyVersion uint64
	Cap           dp.Budget
	Loads         uint64 // number of the last load that began
	LoadedUnder   uint64 // oldest version of the policy that committed rows were read by; 0: none
	WrittenOff    []writtenOff
}

// writtenOff counts as spent in every account of a dataset up to the end of a block (WriteOff).
type writtenOff struct {
	Through    string // block: counted in every one that begins before it ends
	Cap        dp.Loss
	Allotments dp.Loss
}

// pendingRecord is a load that began and has not ended.
type pendingRecord struct {
	Name          string // empty: it will end under a name made of its content
	Blocks        []string
	PolicyVersion uint64 // of the policy which its rows are read by
	At            time.Time
}

// blockVersionRecord is what one version added to a block.
type blockVersionRecord struct {
	Load   uint64 // whose segments are visible from this version on; 0: none, a repeat
	Repeat uint64 // number of a load that repeated an earlier one
}

// accountRecord is what was spent, by how many charges. It never shrinks.
type accountRecord struct {
	Spent   dp.Loss
	Charges uint64
}

// chargeRecord is a charge and how it ended.
type chargeRecord struct {
	Number   uint64
	Charge   dp.Charge
	Purpose  string
	Plan     string
	Snapshot dp.Snapshot
	Source   string // release of another consumer that was handed out
	Report   string `json:",omitempty"` // whose question it is

	Attempts int       // started so far; the newest is this one
	Lease    time.Time // until when the newest may run undisturbed
	Opening  uint64    // of the ledger, in which the newest started

	Release string   // how it ended; at most one of Release and Failure
	Metrics []string // of Release
	Failure *dp.Error
}

func (c *chargeRecord) ended() bool { return c.Release != "" || c.Failure != nil }

// idempotencyRecord is what a caller's key stands for.
type idempotencyRecord struct {
	Charge string
	Body   []byte // digest of what was asked under the key
}

// releaseRecord says where a release's bytes are and what they are.
type releaseRecord struct {
	Number  uint64 // in the order of publishing
	Charge  string
	Blob    string
	Bytes   int64
	Sum     []byte     // SHA-256 of the bytes
	Summary dp.Release // without groups and coordinates
}

// unfinishedRecord is a blob that no release names yet.
type unfinishedRecord struct {
	Blob   string
	Pieces int // written so far
}

// holderRecord says by which charge a consumer holds a release.
type holderRecord struct {
	Number uint64
	Charge string
}

// drawRecord is a draw of a plan that a consumer holds.
type drawRecord struct {
	Release  string
	Versions []byte // digestVersions of what it was answered over
}

// changeRecord is one entry of the log of changes.
type changeRecord struct {
	At      time.Time
	Actor   string
	Reason  string
	Changed []changedObject
}

// changedObject is what a change wrote.
type changedObject struct {
	Kind    string // policy, consumer, key, allotment, request or proposal
	Name    string
	Version uint64 // that it has now; 0 for keys; of a request or proposal, 1 once it is made and 2 once it has ended
}

// writeOffRecord says what was written off and why.
type writeOffRecord struct {
	At            time.Time
	Actor         string
	Reason        string
	State         State     // of the ledger before
	Cause         string    // of that
	Amount        dp.Budget // that the officer gave
	WitnessLength uint64    // what the witness said before; zeros where there was none
	WitnessHead   []byte
	Length        uint64 // what the ledger held before
	Head          []byte
	Through       string // month; datasets that are declared later count as spent through it
}

// recordVersion begins every record.
const recordVersion = 1

// errDamaged says that a record is not what this package writes. It is never expected, and never repaired
// here: verify and restore are the operator's.
var errDamaged = errors.New("a record of the ledger is damaged or was written by another version of discreet: stop, and restore the ledger")

// errLost says that the chain of entries and what the database holds do not fit.
var errLost = errors.New("the ledger is damaged: restore it from a backup, without its witness, and have an officer write off what the backup lacks")

// save writes a record as its version and JSON.
func save[T any](t *tx, key []byte, record T) error {
	value, err := encode(record)
	if err != nil {
		return err
	}
	t.put(key, value)
	return nil
}

// load reads a record that save wrote.
func load[T any](r reader, key []byte) (record T, found bool, err error) {
	value, err := r.get(key)
	if err != nil || value == nil {
		return record, false, err
	}
	t, writes := r.(*tx)
	writes = writes && (key[0] == kindDataset || key[0] == kindAllotment || key[0] == kindConsumer || key[0] == kindRetired || key[0] == kindKey)
	if writes {
		if known, ok := t.hot.recordOf(key, value).(T); ok {
			return known, true, nil
		}
	}
	record, err = decode[T](value)
	if writes && err == nil {
		t.hot.setRecord(key, value, record)
	}
	return record, err == nil, err
}

// mustLoad reads a record that another record promises.
func mustLoad[T any](r reader, key []byte) (T, error) {
	record, found, err := load[T](r, key)
	if err == nil && !found {
		err = fmt.Errorf("a record of kind %c is missing: %w", key[0], errDamaged)
	}
	return record, err
}

func encode[T any](record T) ([]byte, error) {
	text, err := json.Marshal(record)
	if err != nil {
		return nil, fmt.Errorf("encoding a record: %w", err)
	}
	return append([]byte{recordVersion}, text...), nil
}

// decode refuses fields that it does not know: a renamed field must not read as an empty one.
func decode[T any](value []byte) (record T, err error) {
	if len(value) == 0 || value[0] != recordVersion {
		return record, errDamaged
	}
	d := json.NewDecoder(bytes.NewReader(value[1:]))
	d.DisallowUnknownFields()
	if err := d.Decode(&record); err != nil {
		return record, fmt.Errorf("decoding a record: %w", errors.Join(errDamaged, err))
	}
	return record, nil
}

// saveNumber and loadNumber keep a counter.
func saveNumber(t *tx, key []byte, n uint64) {
	t.put(key, binary.BigEndian.AppendUint64([]byte{recordVersion}, n))
}

func loadNumber(r reader, key []byte) (uint64, error) {
	value, err := r.get(key)
	if err != nil || value == nil {
		return 0, err
	}
	if len(value) != 1+numberBytes || value[0] != recordVersion {
		return 0, errDamaged
	}
	return binary.BigEndian.Uint64(value[1:]), nil
}

// nextNumber counts everything that the ledger orders: charges, holdings, changes.
func nextNumber(t *tx) (uint64, error) {
	n, err := loadNumber(t, numberKey())
	if err != nil {
		return 0, err
	}
	saveNumber(t, numberKey(), n+1)
	return n + 1, nil
}

// accountBytes is the length of an account's record: version, four parts of the loss, number of charges.
const accountBytes = 1 + 4*numberBytes + numberBytes

// saveAccount refuses what would make an account shrink.
func saveAccount(t *tx, key []byte, before, after accountRecord) error {
	b, a := before.Spent, after.Spent
	if a.Epsilon < b.Epsilon || a.Delta < b.Delta || a.Rho < b.Rho || a.DeltaZ < b.DeltaZ || after.Charges <= before.Charges {
		return errors.New("an account would shrink: the charge is refused")
	}
	value := make([]byte, 1, accountBytes)
	value[0] = recordVersion
	for _, part := range []int64{int64(a.Epsilon), int64(a.Delta), int64(a.Rho), int64(a.DeltaZ)} {
		value = binary.BigEndian.AppendUint64(value, uint64(part))
	}
	t.put(key, binary.BigEndian.AppendUint64(value, after.Charges))
	return nil
}

// loadAccount reads an account; one that was never charged is empty.
func loadAccount(r reader, key []byte) (accountRecord, error) {
	value, err := r.get(key)
	if err != nil || value == nil {
		return accountRecord{}, err
	}
	return decodeAccount(value)
}

func decodeAccount(value []byte) (accountRecord, error) {
	if len(value) != accountBytes || value[0] != recordVersion {
		return accountRecord{}, errDamaged
	}
	var parts [5]uint64
	for i := range parts {
		parts[i] = binary.BigEndian.Uint64(value[1+i*numberBytes:])
		if parts[i] > math.MaxInt64 {
			return accountRecord{}, errDamaged
		}
	}
	if parts[4] == 0 {
		return accountRecord{}, errDamaged
	}
	return accountRecord{
		Spent:   dp.Loss{Epsilon: dp.Epsilon(parts[0]), Delta: dp.Delta(parts[1]), Rho: dp.Rho(parts[2]), DeltaZ: dp.Delta(parts[3])},
		Charges: parts[4],
	}, nil
}
