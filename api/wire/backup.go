package wire

import "time"

// Backup is a copy of ledger, secrets and rows, which the server keeps on its own side: it is never sent.
type Backup struct {
	ID        string     `json:"id" example:"backup-20260401T030000Z-1f2e3d4c"`
	State     string     `json:"state" enum:"running,done,failed" example:"done"`
	By        string     `json:"by,omitempty" doc:"Who asked for it; absent where the day's schedule did" example:"root"`
	Begun     time.Time  `json:"begun"`
	Ended     *time.Time `json:"ended,omitempty" doc:"Absent while it runs"`
	Bytes     int64      `json:"bytes,omitempty" doc:"Of its file, as far as it is written; for custodians alone, who know how many rows there are" example:"104857600"`
	Ledger    *Mark      `json:"ledger,omitempty" doc:"Where the ledger stood; absent until that moment was taken"`
	Files     []string   `json:"files" doc:"In the directory of backups: the backup, its note, and the list of erasures, without which it is not to be restored" example:"[\"backup-20260401T030000Z-1f2e3d4c.backup.age\"]"`
	SHA256    string     `json:"sha256,omitempty" doc:"Of the first file, hexadecimal"`
	Encrypted bool       `json:"encrypted" doc:"Whether its recipients alone can read it" example:"true"`
	Error     string     `json:"error,omitempty" doc:"Why there is none; of those that failed since the server started"`
}

// Mark is where a ledger stood.
type Mark struct {
	ID     string `json:"id" doc:"Of the ledger" example:"0f1e2d3c4b5a69788796a5b4c3d2e1f0"`
	Length uint64 `json:"length" doc:"Number of its last entry" example:"48213"`
	Head   string `json:"head" doc:"SHA-256 of that, hexadecimal"`
}

// BackupList is all backups, newest first.
type BackupList struct {
	Items []Backup `json:"items"`
	Next  string   `json:"next,omitempty" doc:"Cursor of the next page; absent on the last"`
}
