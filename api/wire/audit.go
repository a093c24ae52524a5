package wire

import "time"

// AuditLine is one entry of the log.
type AuditLine struct {
	Index    uint64        `json:"index" doc:"Of the entry as a leaf of the tree, from 0: GET /v1/audit/proof/{index} proves it" example:"1041"`
	At       time.Time     `json:"at" doc:"By the clock of the server"`
	Kind     string        `json:"kind" doc:"What was written: charge, outcome, change, load-commit, erasure, events…" example:"charge"`
	Actor    string        `json:"actor,omitempty" doc:"Who did it, or whose question it was; absent where it was the service itself" example:"growth-team"`
	Reason   string        `json:"reason,omitempty" doc:"Of changes"`
	Datasets []string      `json:"datasets,omitzero" doc:"That it is about" example:"[\"transactions\"]"`
	Objects  []AuditObject `json:"objects,omitzero" doc:"What it is about"`
	Charges  []AuditCharge `json:"charges,omitzero" doc:"What it spends"`
	Failure  string        `json:"failure,omitempty" doc:"Why a question got no release" example:"unavailable"`
	Events   []AuditEvent  `json:"events,omitzero" doc:"What happened within a second and changed nothing; where you ask for a consumer, a dataset or a kind, only these"`
	Lost     int64         `json:"lost,omitempty" doc:"How many events came to be in no entry since the last one of events: there were too many at once, or the ledger took no writes"`
	Partial  bool          `json:"partial,omitempty" doc:"A part of the entry is known by its digest only, and was written over since"`
	Bytes    int           `json:"bytes" doc:"Length of the entry" example:"412"`
	LeafHash string        `json:"leaf_hash" doc:"Of the entry in the tree, base64" example:"n8PbJ7bV0mF5Ff0m6cMtVg7oJAsnX4wKXrJ0a0a7q0w="`
}

// AuditObject is something that an entry is about.
type AuditObject struct {
	Kind    string `json:"kind" doc:"charge, release, load, erasure, retirement, report, run, policy, consumer, key, allotment, request, write-off…" example:"charge"`
	Name    string `json:"name" example:"chg_01k3x8"`
	Version uint64 `json:"version,omitempty" doc:"That it has from then on, or its number"`
}

// AuditCharge is what an entry spends.
type AuditCharge struct {
	ID        string   `json:"id" example:"chg_01k3x8"`
	Consumer  string   `json:"consumer" example:"growth-team"`
	Dataset   string   `json:"dataset" example:"transactions"`
	Blocks    []string `json:"blocks" example:"[\"2026-01\"]"`
	Epsilon   Decimal  `json:"epsilon" doc:"On each of the blocks"`
	Delta     Decimal  `json:"delta"`
	Rho       Decimal  `json:"rho,omitempty" doc:"Absent where no bound is known"`
	Also      []Touch  `json:"also,omitzero" doc:"What else it costs: blocks at another price, or of another dataset"`
	Purpose   string   `json:"purpose,omitempty" example:"product-analytics"`
	HandedOut string   `json:"handed_out,omitempty" doc:"The release that another charge drew: the caps pay nothing" example:"rel_01k3x8"`
}

// AuditEvent is something that changed nothing.
type AuditEvent struct {
	Kind      string `json:"kind" enum:"refusal,reading,view,sign-in,failed-sign-in,load,export,backup" example:"reading"`
	Consumer  string `json:"consumer,omitempty" doc:"Absent where nobody signed in" example:"growth-team"`
	Operation string `json:"operation,omitempty" doc:"What was called, by its id in this document" example:"get-release"`
	Code      string `json:"code,omitempty" doc:"Why it was refused" example:"budget-exhausted"`
	Dataset   string `json:"dataset,omitempty" doc:"Only where there is one of that name" example:"transactions"`
	Release   string `json:"release,omitempty" doc:"What was read" example:"rel_01k3x8"`
	Key       string `json:"key,omitempty" doc:"Id of the key that signed in" example:"key_01k3x8"`
	Object    string `json:"object,omitempty" doc:"What an export or a backup is known by"`
	Further   bool   `json:"further,omitempty" doc:"There were too many different ones at once: these are told without their particulars"`
	Count     int64  `json:"count" doc:"How often" example:"3"`
}

// AuditList is a page of the log.
type AuditList struct {
	Items []AuditLine `json:"items"`
	Next  string      `json:"next,omitempty" doc:"Cursor of the next page; absent once there are no more entries to look at. A page looks at 5,000 entries at most: with filters it may be empty and have a next"`
	Size  uint64      `json:"size" doc:"How many entries the log has" example:"1042"`
}

// AuditCheckpoint is what the log was at one moment, signed.
type AuditCheckpoint struct {
	Log  string `json:"log" doc:"Name of the log: discreet/ and the ledger's id" example:"discreet/5f3a0c9d1b7e42868d0c5b1f9e2a7d34"`
	Size uint64 `json:"size" doc:"How many entries it has" example:"1042"`
	Root string `json:"root" doc:"Root of the Merkle tree over them, base64" example:"Zv0xsWj2tVQZ9n0oMckZ0vJ9GkKf4bE1V0c9mT2b3cM="`
	Note string `json:"note" doc:"The signed note that states log, size and root (C2SP tlog-checkpoint)"`
	Key  string `json:"key" doc:"The public key of its signature, as golang.org/x/mod/sumdb/note reads it. Get it once, by a way that you trust, and keep it" example:"discreet/5f3a0c9d1b7e42868d0c5b1f9e2a7d34+29c35315+AdXqtIdmJClrCyM6tl8Fa8z5SHnoVS1JKxZV33Lxzgjn"`
}

// AuditProof shows that an entry is in the log (RFC 6962, section 2.1.1).
type AuditProof struct {
	Index    uint64   `json:"index" example:"1041"`
	Size     uint64   `json:"size" doc:"Of the log that it is shown to be in" example:"1042"`
	Entry    []byte   `json:"entry" doc:"Its bytes, as store/FORMAT.md has them, base64. Long values and pieces of releases are in it by their digest"`
	LeafHash string   `json:"leaf_hash" doc:"SHA-256 of the byte 00 and the entry, base64" example:"n8PbJ7bV0mF5Ff0m6cMtVg7oJAsnX4wKXrJ0a0a7q0w="`
	Hashes   []string `json:"hashes" doc:"The audit path, from the leaf to the root, base64"`
}

// AuditConsistency shows that one log continues another (RFC 6962, section 2.1.2).
type AuditConsistency struct {
	From   uint64   `json:"from" doc:"Size of the earlier log" example:"1000"`
	To     uint64   `json:"to" doc:"Size of the later one" example:"1042"`
	Hashes []string `json:"hashes" doc:"base64"`
}
