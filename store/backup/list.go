package backup

import (
	"bytes"
	"crypto/sha256"
	"encoding/binary"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"hash/crc32"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"sync"
	"time"

	"filippo.io/age"

	"github.com/discreet-analytics/discreet/dp"
	"github.com/discreet-analytics/discreet/store/durable"
)

// Erased is an erasure with its customers' pseudonyms.
type Erased struct {
	dp.Erasure
	Customers []uint64 // ascending
}

// list is the list of erasures beside the backups: who was erased after a backup must not come back with it, and the
// ledger's record names nobody. It is only ever appended to.
//
// The file is a header (magic, the ledger's id, when the list began, CRC-32C), then records: length (4 bytes), the text,
// CRC-32C of both, and the SHA-256 of the sum before (of the header, at first) and all of that. So none can be changed,
// moved or left out but the last ones; a last one whose CRC is wrong was cut by a crash. The text is what Recipients.seal makes of an erasure.
type list struct {
	mu         sync.Mutex
	file       *os.File
	recipients Recipients
	since      time.Time
	records    uint64
	end        int64 // where the next record goes
	sum        [sha256.Size]byte
	broken     bool // what is at the end is not known
}

const (
	listMagic  = "DISCERA\x01"
	listHeader = len(listMagic) + 16 + 8 + 4
	// maxRecord bounds a record: the pseudonyms of one erasure, of at most 500,000 customers, are 4 MB.
	maxRecord = 64 << 20
)

var castagnoli = crc32.MakeTable(crc32.Castagnoli)

// ListName is the name of the list of a ledger's erasures, in the directory of backups.
func ListName(ledger string) string { return "erasures-" + ledger }

// openList opens the list of a ledger's erasures in dir, for this process alone, and begins one where there is none. A
// record that a crash cut is taken away: its erasure was not acknowledged.
func openList(dir, ledger string, recipients Recipients, now time.Time) (*list, error) {
	path := filepath.Join(dir, ListName(ledger))
	file, err := os.OpenFile(path, os.O_RDWR, 0)
	if errors.Is(err, fs.ErrNotExist) {
		if err := beginList(path, ledger, now); err != nil {
			return nil, fmt.Errorf("beginning the list of erasures: %w", err)
		}
		file, err = os.OpenFile(path, os.O_RDWR, 0)
	}
	if err != nil {
		return nil, fmt.Errorf("opening the list of erasures: %w", err)
	}
	if err := durable.Hold(file); err != nil && !errors.Is(err, errors.ErrUnsupported) {
		return nil, errors.Join(fmt.Errorf("holding the list of erasures %s: %w", path, err), file.Close())
	}
	l := &list{file: file, recipients: recipients}
	read, err := readRecords(file, ledger, nil)
	if err == nil && read.torn {
		err = errors.Join(file.Truncate(read.end), file.Sync())
	}
	if err != nil {
		return nil, errors.Join(fmt.Errorf("reading the list of erasures %s: %w", path, err), file.Close())
	}
	l.since, l.records, l.end, l.sum = read.since, read.records, read.end, read.sum
	return l, nil
}

func beginList(path, ledger string, now time.Time) error {
	id, err := hex.DecodeString(ledger)
	if err != nil || len(id) != 16 {
		return errors.New("a ledger's id has 32 hexadecimal digits")
	}
	header := append([]byte(listMagic), id...)
	header = binary.BigEndian.AppendUint64(header, uint64(now.UnixMicro()))
	header = binary.BigEndian.AppendUint32(header, crc32.Checksum(header, castagnoli))
	file, err := os.CreateTemp(filepath.Dir(path), filepath.Base(path)+".*"+partial)
	if err != nil {
		return err
	}
	defer os.Remove(file.Name())
	_, err = file.Write(header)
	if err = errors.Join(err, file.Sync(), file.Close()); err != nil {
		return err
	}
	if err := os.Link(file.Name(), path); err != nil && !errors.Is(err, fs.ErrExist) {
		return err
	}
	return durable.SyncDir(filepath.Dir(path))
}

// add appends an erasure, and returns once it is durable.
func (l *list) add(e Erased) error {
	text, err := l.recipients.sealErased(e)
	if err != nil {
		return err
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.broken {
		return errors.New("the list of erasures could not be written to before: start the server again")
	}
	record := binary.BigEndian.AppendUint32(nil, uint32(len(text)))
	record = append(record, text...)
	record = binary.BigEndian.AppendUint32(record, crc32.Checksum(record, castagnoli))
	sum := chained(l.sum, record)
	record = append(record, sum[:]...)
	_, err = l.file.WriteAt(record, l.end)
	if err == nil {
		err = l.file.Sync()
	}
	if err != nil {
		if undo := errors.Join(l.file.Truncate(l.end), l.file.Sync()); undo != nil {
			l.broken = true
		}
		return fmt.Errorf("writing the list of erasures: %w", err)
	}
	l.end, l.sum, l.records = l.end+int64(len(record)), sum, l.records+1
	return nil
}

func (l *list) state() (records uint64, since time.Time) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.records, l.since
}

func (l *list) close() error { return l.file.Close() }

func chained(before [sha256.Size]byte, record []byte) [sha256.Size]byte {
	h := sha256.New()
	h.Write(before[:])
	h.Write(record)
	return [sha256.Size]byte(h.Sum(nil))
}

// erasedHead is what stands before the pseudonyms (8 bytes each, little-endian), on a line.
type erasedHead struct {
	Dataset string    `json:"dataset"`
	ID      string    `json:"id"`
	By      string    `json:"by"`
	At      time.Time `json:"at"`
	Units   int64     `json:"units"`
}

func (r Recipients) sealErased(e Erased) ([]byte, error) {
	head, err := json.Marshal(erasedHead{Dataset: e.Dataset, ID: e.ID, By: e.By, At: e.At, Units: e.Units})
	if err != nil {
		return nil, fmt.Errorf("encoding an erasure: %w", err)
	}
	text := append(head, '\n')
	for _, c := range e.Customers {
		text = binary.LittleEndian.AppendUint64(text, c)
	}
	var sealed bytes.Buffer
	out, err := r.seal(&sealed)
	if err == nil {
		_, err = out.Write(text)
	}
	if err == nil {
		err = out.Close()
	}
	if err != nil {
		return nil, fmt.Errorf("encrypting an erasure: %w", err)
	}
	return sealed.Bytes(), nil
}

func openErased(text []byte, identities []age.Identity) (e Erased, err error) {
	in, err := open(bytes.NewReader(text), identities)
	if err != nil {
		return e, err
	}
	text, err = io.ReadAll(in)
	if err != nil {
		return e, err
	}
	head, customers, found := bytes.Cut(text, []byte("\n"))
	var h erasedHead
	if !found || json.Unmarshal(head, &h) != nil || len(customers)%8 != 0 {
		return e, fmt.Errorf("an erasure cannot be read: %w", ErrDamaged)
	}
	e.Erasure = dp.Erasure{Dataset: h.Dataset, ID: h.ID, By: h.By, At: h.At, Units: h.Units}
	for ; len(customers) > 0; customers = customers[8:] {
		e.Customers = append(e.Customers, binary.LittleEndian.Uint64(customers))
	}
	return e, nil
}

// listed is how far a list was read.
type listed struct {
	since   time.Time
	records uint64
	end     int64
	sum     [sha256.Size]byte
	torn    bool // what follows was never written to its end
}

// readRecords reads a list from its beginning, and gives each record's text to each, where there is one.
func readRecords(file io.ReaderAt, ledger string, each func(text []byte) error) (l listed, err error) {
	header := make([]byte, listHeader)
	if _, err := file.ReadAt(header, 0); err != nil && !errors.Is(err, io.EOF) {
		return l, err
	}
	sum := binary.BigEndian.Uint32(header[listHeader-4:])
	if string(header[:len(listMagic)]) != listMagic || crc32.Checksum(header[:listHeader-4], castagnoli) != sum {
		return l, errList
	}
	if hex.EncodeToString(header[len(listMagic):len(listMagic)+16]) != ledger {
		return l, errors.New("it is the list of another ledger's erasures")
	}
	l.since = time.UnixMicro(int64(binary.BigEndian.Uint64(header[len(listMagic)+16:]))).UTC()
	l.end, l.sum = int64(listHeader), sha256.Sum256(header)
	for {
		begin := make([]byte, 4)
		n, err := file.ReadAt(begin, l.end)
		if err != nil && !errors.Is(err, io.EOF) {
			return l, err
		}
		if n < len(begin) {
			l.torn = n > 0
			return l, nil
		}
		length := binary.BigEndian.Uint32(begin)
		if length > maxRecord {
			return l, errList
		}
		record := make([]byte, 4+int(length)+4+sha256.Size)
		n, err = file.ReadAt(record, l.end)
		if err != nil && !errors.Is(err, io.EOF) {
			return l, err
		}
		if n < len(record) {
			l.torn = true
			return l, nil
		}
		text, sum := record[:4+length], record[len(record)-sha256.Size:]
		next := chained(l.sum, record[:len(record)-sha256.Size])
		if !bytes.Equal(next[:], sum) {
			more, _ := file.ReadAt(make([]byte, 1), l.end+int64(len(record)))
			if whole := crc32.Checksum(text, castagnoli) == binary.BigEndian.Uint32(record[len(text):]); more == 0 && !whole {
				l.torn = true // its place came to the disk, and not all of its bytes
				return l, nil
			}
			return l, errList
		}
		if each != nil {
			if err := each(text[4:]); err != nil {
				return l, err
			}
		}
		l.end, l.sum, l.records = l.end+int64(len(record)), next, l.records+1
	}
}

var errList = fmt.Errorf("it is damaged: bring back a copy of it, or move it away, and then erase again whoever was erased since the oldest backup that is kept: %w", ErrDamaged)

// ReadList gives the erasures that are listed in a directory of backups, for one of its backups. It refuses a list that
// is older than the backup, or that began after it: such a one may lack erasures.
//
// Errors: fs.ErrNotExist where there is none; ErrIncomplete; ErrNoIdentity; ErrDamaged.
func ReadList(dir string, of Head, identities []age.Identity) (all []Erased, err error) {
	file, err := os.Open(filepath.Join(dir, ListName(of.Ledger)))
	if err != nil {
		return nil, fmt.Errorf("opening the list of erasures: %w", err)
	}
	defer file.Close()
	read, err := readRecords(file, of.Ledger, func(text []byte) error {
		e, err := openErased(text, identities)
		all = append(all, e)
		return err
	})
	if err != nil {
		return nil, fmt.Errorf("reading the list of erasures: %w", err)
	}
	if read.since.After(of.Created) || read.since.Equal(of.Since) && read.records < of.Listed {
		return nil, ErrIncomplete
	}
	return all, nil
}

// ErrIncomplete says that a list of erasures does not reach from a backup to now.
var ErrIncomplete = errors.New("the list of erasures began after the backup was made, or is an older copy")
