package secrets

import (
	"bytes"
	"crypto/rand"
	"crypto/sha256"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"runtime"

	"github.com/discreet-analytics/discreet/store/durable"
)

// FileName is the name of the file within its directory.
const FileName = "secrets"

// magic begins the file and names its version. The file is magic, master, SHA-256 of both. Under a Key it is sealedMagic
// and the sealed master, which belongs to that magic.
const (
	magic       = "DISCSEC\x01"
	sealedMagic = "DISCSEC\x02"
)

// sealedBytes is the length of a file under a Key.
const sealedBytes = len(sealedMagic) + masterBytes + SealedBytes

// sealedFor is what the master is sealed for.
const sealedFor = "secrets/1"

const fileBytes = len(magic) + masterBytes + sha256.Size

// Open reads the master from dir, and makes directory and file where there is none. It refuses a file that
// others may read, or that is not exactly what was written, and says what to do.
func Open(dir string) (*Secrets, error) { return OpenWith(dir, nil) }

// OpenWith is Open where the installation is encrypted with a key, which may be nil.
func OpenWith(dir string, key *Key) (*Secrets, error) {
	path := filepath.Join(dir, FileName)
	master, err := read(path, key)
	if errors.Is(err, fs.ErrNotExist) {
		if err := create(dir, path, key); err != nil {
			return nil, fmt.Errorf("creating the secrets file: %w", err)
		}
		master, err = read(path, key)
	}
	if err != nil {
		return nil, fmt.Errorf("reading the secrets file: %w", err)
	}
	return fromMaster(master), nil
}

// Check tells whether a key, which may be nil, is that of the secrets file in dir: nil where it is, or where there is none
// yet.
func Check(dir string, key *Key) error {
	_, err := read(filepath.Join(dir, FileName), key)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	return err
}

// read checks the file and returns the master.
func read(path string, key *Key) (master [masterBytes]byte, err error) {
	info, err := os.Lstat(path)
	if err != nil {
		return master, err
	}
	if !info.Mode().IsRegular() {
		return master, fmt.Errorf("%s is not a regular file: put the file itself there, not a link or a directory", path)
	}
	// Windows keeps access lists instead of these bits.
	if runtime.GOOS != "windows" && info.Mode().Perm()&0o077 != 0 {
		return master, fmt.Errorf("%s can be read or written by others (mode %04o): check who did, then run chmod 600 on it", path, info.Mode().Perm())
	}
	if info.Size() != int64(fileBytes) && info.Size() != int64(sealedBytes) {
		return master, fmt.Errorf("%s has %d bytes and should have %d: restore it from the backup of this installation; a new one would give every customer a second pseudonym", path, info.Size(), fileBytes)
	}
	data, err := os.ReadFile(path)
	if err != nil {
		return master, err
	}
	switch sealed := bytes.HasPrefix(data, []byte(sealedMagic)) && len(data) == sealedBytes; {
	case sealed && key == nil:
		return master, ErrEncrypted
	case sealed:
		plain, err := key.Sealer(sealedFor).Open(data[len(sealedMagic):], []byte(sealedMagic))
		if err != nil {
			return master, ErrOtherKey
		}
		return [masterBytes]byte(plain), nil
	case key != nil:
		return master, ErrPlain
	}
	return parse(path, data)
}

// parse reads a file's bytes; path names it in errors.
func parse(path string, data []byte) (master [masterBytes]byte, err error) {
	if len(data) != fileBytes {
		return master, fmt.Errorf("%s has %d bytes and should have %d: restore it from the backup of this installation; a new one would give every customer a second pseudonym", path, len(data), fileBytes)
	}
	if !bytes.HasPrefix(data, []byte(magic)) {
		return master, fmt.Errorf("%s is not a secrets file of version 1: restore it from the backup of this installation, or run the version of discreet that wrote it", path)
	}
	body, sum := data[:fileBytes-sha256.Size], data[fileBytes-sha256.Size:]
	if want := sha256.Sum256(body); !bytes.Equal(sum, want[:]) {
		return master, fmt.Errorf("%s is damaged (its checksum does not match): restore it from the backup of this installation; a new one would give every customer a second pseudonym", path)
	}
	copy(master[:], body[len(magic):])
	return master, nil
}

// create writes a new master so that the file is either whole or absent, whenever the machine stops. Of two
// processes that create it at once, one wins and both read the winner's.
func create(dir, path string, key *Key) error {
	var master [masterBytes]byte
	// Read never fails: it ends the process when the system has no randomness.
	_, _ = rand.Read(master[:])
	return write(dir, path, encodeFor(key, master))
}

// encode is a file's bytes.
func encode(master [masterBytes]byte) []byte {
	data := append([]byte(magic), master[:]...)
	sum := sha256.Sum256(data)
	return append(data, sum[:]...)
}

// encodeFor is a file's bytes under a key.
func encodeFor(key *Key, master [masterBytes]byte) []byte {
	if key == nil {
		return encode(master)
	}
	return append([]byte(sealedMagic), key.Sealer(sealedFor).Seal(master[:], []byte(sealedMagic))...)
}

// Copy is the bytes of a secrets file, for a backup that nobody but its recipients can read, and for Restore.
func (s *Secrets) Copy() []byte { return encode(s.master) }

// Restore writes a copy into dir, where there is no secrets file yet, under a key, which may be nil.
func Restore(dir string, copied []byte, key *Key) (*Secrets, error) {
	master, err := parse("the copy of the secrets file", copied)
	if err != nil {
		return nil, err
	}
	path := filepath.Join(dir, FileName)
	if _, err := os.Lstat(path); !errors.Is(err, fs.ErrNotExist) {
		return nil, errors.Join(errors.New("there is a secrets file already"), err)
	}
	if err := write(dir, path, encodeFor(key, master)); err != nil {
		return nil, fmt.Errorf("writing the secrets file: %w", err)
	}
	return fromMaster(master), nil
}

// write writes the file so that it is either whole or absent, and never replaces one.
func write(dir, path string, data []byte) error {
	if err := durable.MakeDir(dir); err != nil {
		return err
	}
	file, err := os.CreateTemp(dir, FileName+"-*.new") // mode 0600
	if err != nil {
		return err
	}
	defer os.Remove(file.Name())
	_, err = file.Write(data)
	if err == nil {
		err = file.Sync()
	}
	if err = errors.Join(err, file.Close()); err != nil {
		return err
	}
	// A link, unlike a rename, never replaces a file that is there.
	if err := os.Link(file.Name(), path); err != nil && !errors.Is(err, fs.ErrExist) {
		return err
	}
	return durable.SyncDir(dir)
}
