package main

import "github.com/discreet-analytics/discreet/store/secrets"

// encryptionFlag names the key of a data directory that is encrypted.
type encryptionFlag struct {
	EncryptionKeyFile string `help:"File outside of --data with the key that encrypts everything there: 32 random bytes on one line, in base64 or hexadecimal (head -c32 /dev/urandom | base64)." placeholder:"FILE"`
}

// read reads the key; nil where none is named. It must not lie in the directory that it encrypts.
func (f encryptionFlag) read(data string) (*secrets.Key, error) {
	if f.EncryptionKeyFile == "" {
		return nil, nil
	}
	inside, err := within(f.EncryptionKeyFile, data)
	if err != nil {
		return nil, err
	}
	if inside {
		return nil, usagef("--encryption-key-file must lie outside of --data: whoever has the one must not have the other with it")
	}
	key, err := secrets.ReadKey(f.EncryptionKeyFile)
	if err != nil {
		return nil, usagef("%v", err)
	}
	return key, nil
}
