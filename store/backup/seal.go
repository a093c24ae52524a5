package backup

import (
	"bufio"
	"bytes"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"strings"

	"filippo.io/age"
)

// Recipients are whom backups are encrypted to (age, https://age-encryption.org/v1). None: backups are plain.
type Recipients []age.Recipient

// ageMagic begins what age encrypted.
const ageMagic = "age-encryption.org/"

// ReadRecipients reads public keys (age1…) and files of them, a key on each line.
func ReadRecipients(given []string) (Recipients, error) {
	var all Recipients
	for _, text := range given {
		list, err := recipientsOf(text)
		if err != nil {
			return nil, err
		}
		all = append(all, list...)
	}
	return all, nil
}

func recipientsOf(text string) ([]age.Recipient, error) {
	if strings.HasPrefix(text, "age1") {
		list, err := age.ParseRecipients(strings.NewReader(text))
		if err != nil {
			return nil, errors.New("what is given as a recipient of backups is no public key of age: copy it whole, from age1 on (age-keygen prints it)")
		}
		return list, nil
	}
	file, err := os.Open(text)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, errors.New("a recipient of backups is a public key of age (age1…) or a file of them, and there is no such file")
	}
	if err != nil {
		return nil, fmt.Errorf("reading recipients of backups: %w", err)
	}
	defer file.Close()
	list, err := age.ParseRecipients(io.LimitReader(file, maxKeys))
	if err != nil {
		return nil, fmt.Errorf("the file of recipients of backups does not hold public keys of age, one on each line (age1…)")
	}
	return list, nil
}

// maxKeys bounds a file of keys, in bytes.
const maxKeys = 1 << 20

// ReadIdentities reads a file of private keys (AGE-SECRET-KEY-1…), one on each line; an empty path gives none.
func ReadIdentities(path string) ([]age.Identity, error) {
	if path == "" {
		return nil, nil
	}
	file, err := os.Open(path)
	if err != nil {
		return nil, fmt.Errorf("reading the identity: %w", err)
	}
	defer file.Close()
	list, err := age.ParseIdentities(io.LimitReader(file, maxKeys))
	if err != nil { // its words may quote the file
		return nil, errors.New("the identity file does not hold private keys of age, one on each line (AGE-SECRET-KEY-…)")
	}
	return list, nil
}

// KeyIn makes a key pair, writes the private key to a new file that nobody else may read, and returns the public one.
// Where there is a file, it returns the public key of the private one in it.
func KeyIn(path string) (public string, err error) {
	file, err := os.OpenFile(path, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
	if errors.Is(err, fs.ErrExist) {
		list, err := ReadIdentities(path)
		if err != nil {
			return "", err
		}
		if own, ok := list[0].(*age.X25519Identity); ok && len(list) == 1 {
			return own.Recipient().String(), nil
		}
		return "", errors.New("the file does not hold one private key of the usual kind (AGE-SECRET-KEY-1…)")
	}
	if err != nil {
		return "", fmt.Errorf("making a file for a private key: %w", err)
	}
	pair, err := age.GenerateX25519Identity()
	if err == nil {
		_, err = file.WriteString(pair.String() + "\n")
	}
	if err = errors.Join(err, file.Sync(), file.Close()); err != nil {
		return "", errors.Join(fmt.Errorf("writing a private key: %w", err), os.Remove(path))
	}
	return pair.Recipient().String(), nil
}

// seal encrypts what is written to it, where there are recipients. Closing it does not close what lies under it.
func (r Recipients) seal(to io.Writer) (io.WriteCloser, error) {
	if len(r) == 0 {
		return plain{to}, nil
	}
	sealed, err := age.Encrypt(to, r...)
	if err != nil {
		return nil, fmt.Errorf("encrypting: %w", err)
	}
	return sealed, nil
}

type plain struct{ io.Writer }

func (plain) Close() error { return nil }

// ErrNoIdentity says that what is encrypted cannot be read with the private keys at hand.
var ErrNoIdentity = errors.New("it is encrypted, and none of the private keys at hand opens it: give the file with the private key of one of its recipients (--identity)")

// open reads what seal wrote.
func open(from io.Reader, identities []age.Identity) (io.Reader, error) {
	in := bufio.NewReaderSize(from, 1<<16)
	begin, err := in.Peek(len(ageMagic))
	if err != nil && !errors.Is(err, io.EOF) {
		return nil, err
	}
	if !bytes.Equal(begin, []byte(ageMagic)) {
		return in, nil
	}
	if len(identities) == 0 {
		return nil, ErrNoIdentity
	}
	opened, err := age.Decrypt(in, identities...)
	var none *age.NoIdentityMatchError
	if errors.As(err, &none) {
		return nil, ErrNoIdentity
	}
	if err != nil {
		return nil, fmt.Errorf("%w: %w", err, ErrDamaged)
	}
	return damages{opened}, nil
}

// damages gives what age finds changed or cut as ErrDamaged.
type damages struct{ io.Reader }

func (d damages) Read(p []byte) (int, error) {
	n, err := d.Reader.Read(p)
	if err != nil && !errors.Is(err, io.EOF) {
		err = fmt.Errorf("%w: %w", err, ErrDamaged)
	}
	if errors.Is(err, io.ErrUnexpectedEOF) {
		err = fmt.Errorf("it ends early: %w", ErrDamaged)
	}
	return n, err
}

// Read reads the backup in a file to its end. Nothing that the visitor was given counts unless the error is nil.
//
// Errors: ErrNoIdentity; ErrDamaged where the file is not what was written; the visitor's, as they are.
func Read(path string, identities []age.Identity, v Visitor) (Head, error) {
	file, err := os.Open(path)
	if err != nil {
		return Head{}, fmt.Errorf("opening the backup: %w", err)
	}
	defer file.Close()
	in, err := open(file, identities)
	if err != nil {
		return Head{}, err
	}
	return readArchive(in, v)
}
