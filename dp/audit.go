package dp

import "time"

// AuditEvent is something that changed nothing, so that no entry of its own tells of it: a refusal, a reading, a
// sign-in. Events that are the same but for their count are one. It never holds a row, a customer, a figure, what was
// asked or the text of a key; of names, only those of what there is.
type AuditEvent struct {
	Kind     AuditKind
	Consumer string `json:",omitempty"` // who; empty where nobody signed in
	// Operation is what was called, as the API names it. Empty for sign-ins.
	Operation string `json:",omitempty"`
	Code      Code   `json:",omitempty"` // why, of refusals and failed sign-ins
	Dataset   string `json:",omitempty"` // of a refusal or a load; empty where none of that name exists
	Release   string `json:",omitempty"` // of a reading
	Key       string `json:",omitempty"` // of a sign-in: the key's id; empty where it was by other means
	// Object is what an export or a backup is known by: its size, its digest.
	Object string `json:",omitempty"`
	// Further says that these are events whose particulars were left out, because there were too many at once.
	Further bool  `json:",omitempty"`
	Count   int64 // how often, at least 1
}

// AuditKind is what happened.
type AuditKind string

// The kinds of events.
const (
	AuditRefusal      AuditKind = "refusal"        // a problem was answered to a consumer
	AuditReading      AuditKind = "reading"        // figures of a release were handed out, once more
	AuditView         AuditKind = "view"           // what an officer or auditor looked at; once an hour for each operation
	AuditSignIn       AuditKind = "sign-in"        // the first use of a key since the start, or in an hour
	AuditFailedSignIn AuditKind = "failed-sign-in" // a key or token was refused
	AuditLoad         AuditKind = "load"           // who delivered rows; the entry of the load does not say
	AuditExport       AuditKind = "export"         // the log was exported
	AuditBackup       AuditKind = "backup"
)

// KeyFault is why a key was refused, for the log alone: callers are told the same whatever it is. Where it is known, it
// is the cause of the dp.Error.
type KeyFault Code

// The faults of keys. Others may sign in by other means, with faults of their own.
const (
	KeyUnknown   KeyFault = "unknown"
	KeyExpired   KeyFault = "expired"
	KeyRevoked   KeyFault = "revoked"
	KeySuspended KeyFault = "suspended" // its consumer is
	KeyMalformed KeyFault = "malformed" // or there was none
)

func (f KeyFault) Error() string { return "the key is " + string(f) }

// AuditLine is one entry of the log, for people to read.
type AuditLine struct {
	Index    uint64 // of the entry as a leaf of the tree, from 0
	At       time.Time
	Kind     string   // the entry's name
	Actor    string   // who; empty for the service itself, and where no entry says
	Reason   string   // of changes
	Datasets []string // that it is about, sorted
	Objects  []AuditObject
	Charges  []AuditCharge // that it makes
	Failure  Code          // how a question ended, where not with a release
	Events   []AuditEvent  // of an entry of events; where a filter names a consumer or dataset, only theirs
	// Lost counts events that could not be written down before these.
	Lost  int64
	Bytes int      // length of the entry
	Hash  [32]byte // of the leaf
	// Partial says that a part of the entry was too long for it, and was written over since: of that only the digest is left.
	Partial bool
}

// AuditObject is something that an entry is about.
type AuditObject struct {
	Kind    string // charge, release, load, erasure, retirement, report, request, policy, consumer, key, allotment, write-off…
	Name    string
	Version uint64 // 0 where it has none
}

// AuditCharge is what an entry spends.
type AuditCharge struct {
	Charge
	Purpose string
	Source  string // the release that was handed out, drawn by another charge
}

// AuditFilter admits lines. Zero values admit all.
type AuditFilter struct {
	Kind        string // name of an entry, or kind of an event in it
	Consumer    string // who acted, whose budget was spent, or who is the object
	Dataset     string
	From, To    time.Time // from the first, before the second
	OldestFirst bool
}

// AuditProof shows that an entry is in the log (RFC 6962, section 2.1.1; golang.org/x/mod/sumdb/tlog.CheckRecord).
type AuditProof struct {
	Index  uint64
	Size   uint64 // of the log that it is shown to be in
	Entry  []byte // as the ledger has it; of what it holds by digest, the digest
	Hashes [][32]byte
}

// AuditCheckpoint is what the log was at one moment, signed.
type AuditCheckpoint struct {
	Log  string // its name
	Size uint64
	Root [32]byte
	// Note states log, size and root and signs them (C2SP tlog-checkpoint), and Key is the text of the key that it is
	// verified with (golang.org/x/mod/sumdb/note).
	Note []byte
	Key  string
}
