package wire

import "time"

// Consumer is a person, team or program that may call Discreet.
type Consumer struct {
	Name         string    `json:"name" example:"growth-team"`
	Role         string    `json:"role" enum:"product,analyst,officer,custodian,auditor" example:"product"`
	Organisation string    `json:"organisation,omitempty" example:"messenger"`
	Audience     string    `json:"audience" enum:"internal,third-party" example:"internal"`
	Purposes     []string  `json:"purposes" example:"[\"product-analytics\"]"`
	Suspended    bool      `json:"suspended,omitempty" doc:"While true, no key of it is in force, and nothing is charged to it"`
	Subject      string    `json:"subject,omitempty" doc:"Whom the issuer's tokens are about that sign this consumer in; absent: none do" example:"ada@example.org"`
	Created      time.Time `json:"created"`
	Version      uint64    `json:"version" doc:"What If-Match compares, as an ETag" example:"1"`
}

// Me is the caller.
type Me struct {
	Consumer
	Key    string `json:"key,omitempty" doc:"Id of the key that was used, never the key; absent where a token was" example:"key_01k3x8"`
	SignIn string `json:"sign_in" enum:"key,token" doc:"What signed the caller in" example:"key"`
}

// NewConsumer is a consumer to be created.
type NewConsumer struct {
	Name         string   `json:"name" doc:"Matches [a-z][a-z0-9_-]{0,62}" example:"growth-team"`
	Role         string   `json:"role" enum:"product,analyst,officer,custodian,auditor" example:"product"`
	Organisation string   `json:"organisation,omitempty" maxLength:"200" example:"messenger"`
	Audience     string   `json:"audience,omitempty" doc:"internal when absent" enum:"internal,third-party" example:"internal"`
	Purposes     []string `json:"purposes,omitzero" doc:"What it may ask for" example:"[\"product-analytics\"]"`
	Subject      string   `json:"subject,omitempty" maxLength:"255" doc:"Whom the issuer's tokens are about that sign it in, as its claim has it; needs a reason, and is that of one consumer" example:"ada@example.org"`
}

// ConsumerPatch changes the fields that it holds.
type ConsumerPatch struct {
	Role         *string   `json:"role,omitempty" enum:"product,analyst,officer,custodian,auditor" example:"analyst"`
	Organisation *string   `json:"organisation,omitempty" maxLength:"200" example:"messenger"`
	Audience     *string   `json:"audience,omitempty" enum:"internal,third-party" example:"internal"`
	Subject      *string   `json:"subject,omitempty" maxLength:"255" doc:"As in NewConsumer; empty: tokens sign it in no more" example:"ada@example.org"`
	Purposes     *[]string `json:"purposes,omitempty" doc:"Replaces all of them" example:"[\"product-analytics\",\"reporting\"]"`
	Suspended    *bool     `json:"suspended,omitempty" doc:"true: its keys are refused at once, and nothing more is charged to it"`
}

// ConsumerList is a page of consumers, by name.
type ConsumerList struct {
	Items []Consumer `json:"items"`
	Next  string     `json:"next,omitempty" doc:"Cursor of the next page; absent on the last"`
}

// Key is a consumer's credential, without its text.
type Key struct {
	ID       string     `json:"id" example:"key_01k3x8"`
	Consumer string     `json:"consumer" example:"growth-team"`
	Created  time.Time  `json:"created"`
	Expires  *time.Time `json:"expires,omitempty" doc:"Absent: never"`
	Revoked  *time.Time `json:"revoked,omitempty" doc:"Absent: in force"`
	Under    string     `json:"under,omitempty" doc:"Id of the key under which its consumer made it; absent: an officer did" example:"key_01k3x7"`
	LastUsed *time.Time `json:"last_used,omitempty" doc:"Absent: not since this server started"`
}

// NewKey is a key to be issued.
type NewKey struct {
	Expires      *time.Time `json:"expires,omitempty" doc:"Absent: never"`
	Hash         string     `json:"hash,omitempty" doc:"SHA-256, in hexadecimal digits, of a key that whoever will use it has drawn, as discreet key new does; absent: it is drawn here and shown once" pattern:"^[0-9a-f]{64}$" example:"9b74c9897bac770ffc029102a200c5de9b74c9897bac770ffc029102a200c5de"`
	GraceSeconds *int64     `json:"grace_seconds,omitempty" minimum:"0" maximum:"7776000" doc:"With it, and without hash, the consumer's other keys end after so many seconds, in the same change. Your own stay for a minute at least" example:"86400"`
}

// NewOwnKey is a key that a consumer makes itself.
type NewOwnKey struct {
	Expires      *time.Time `json:"expires,omitempty" doc:"Absent: when the key ends that signs this call in, which is also the latest"`
	GraceSeconds *int64     `json:"grace_seconds,omitempty" minimum:"60" maximum:"7776000" doc:"With it, the key that signs this call in ends after so many seconds, in the same change" example:"3600"`
}

// IssuedKey is a new key with its text, which is shown this once.
type IssuedKey struct {
	Key
	Text   string `json:"text,omitempty" doc:"What to send as Authorization: Bearer; it is stored nowhere. Absent where its hash was given" example:"dk_…"`
	Ending []Key  `json:"ending,omitempty" doc:"The keys whose place it takes, with when they end now"`
}

// KeyList is a page of a consumer's keys, oldest first.
type KeyList struct {
	Items []Key  `json:"items"`
	Next  string `json:"next,omitempty" doc:"Cursor of the next page; absent on the last"`
}

// Allotment is the budget of one consumer on one dataset, for each block of it.
type Allotment struct {
	Consumer           string     `json:"consumer" example:"growth-team"`
	Dataset            string     `json:"dataset" example:"transactions"`
	Epsilon            Decimal    `json:"epsilon"`
	Delta              Decimal    `json:"delta"`
	MaxEpsilonPerQuery Decimal    `json:"max_epsilon_per_query,omitempty" doc:"Absent: no maximum of its own"`
	Expires            *time.Time `json:"expires,omitempty" doc:"Absent: never"`
	Paused             bool       `json:"paused" doc:"Nothing is charged while true"`
	Stopped            string     `json:"stopped,omitempty" enum:"paused,expired" doc:"What stops every question on the dataset; absent: neither"`
	Frozen             []string   `json:"frozen,omitzero" doc:"Blocks on which more is spent than it gives, as it was lowered since: nothing is charged there until it is raised" example:"[\"2026-01\"]"`
	Version            uint64     `json:"version" doc:"What If-Match compares, as an ETag" example:"1"`
}

// NewAllotment is an allotment to be set; it replaces all of an earlier one.
type NewAllotment struct {
	Epsilon            Decimal    `json:"epsilon"`
	Delta              Decimal    `json:"delta,omitempty" doc:"0 when absent"`
	MaxEpsilonPerQuery Decimal    `json:"max_epsilon_per_query,omitempty" doc:"Absent: no maximum of its own"`
	Expires            *time.Time `json:"expires,omitempty" doc:"Absent: never"`
	Paused             bool       `json:"paused,omitempty" doc:"Charge nothing while true"`
}

// AllotmentList is a page of a consumer's allotments, by dataset.
type AllotmentList struct {
	Items []Allotment `json:"items"`
	Next  string      `json:"next,omitempty" doc:"Cursor of the next page; absent on the last"`
}
