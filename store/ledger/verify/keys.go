package verify

import (
	"bytes"
	"encoding/binary"
	"strings"
)

// The kinds of key (store/FORMAT.md, "Keys").
const (
	kindMeta         = 'V'
	kindEntry        = 'E'
	kindNumber       = 'Q'
	kindDataset      = 'D'
	kindPolicy       = 'P'
	kindPending      = 'l'
	kindLoad         = 'L'
	kindLoadName     = 'N'
	kindBlock        = 'B'
	kindBlockVersion = 'S'
	kindAccount      = 'A'
	kindAccountOf    = 'a'
	kindCharge       = 'C'
	kindChargeOf     = 'c'
	kindOpen         = 'o'
	kindIdempotency  = 'I'
	kindRelease      = 'R'
	kindBlob         = 'b'
	kindUnfinished   = 'u'
	kindHolder       = 'H'
	kindHeld         = 'h'
	kindDraw         = 'F'
	kindDrawOf       = 'f'
	kindConsumer     = 'U'
	kindSubject      = 'Z'
	kindAllotment    = 'M'
	kindKey          = 'K'
	kindKeyOf        = 'k'
	kindKeyHash      = 'W'
	kindChange       = 'X'
	kindWriteOff     = 'O'
	kindErasure      = 'G'
	kindErasureEnd   = 'g'
	kindRetired      = 'v'
	kindReport       = 'T'
	kindReportOf     = 't'
	kindReportEnd    = 'j'
	kindRun          = 'r'
	kindScheduled    = 's'
	kindRequest      = 'Y'
	kindRequestEnd   = 'y'
	kindRequests     = 'q'
	kindRequestOf    = 'w'
	kindRequestOpen  = 'p'
	kindRequestOn    = 'd'
	kindHashes       = 'm'
	kindRestore      = 'x'
	kindEvents       = 'z'
	kindProposal     = 'J'
	kindProposalEnd  = 'i'
	kindProposals    = 'n'
	kindProposalOpen = 'e'
)

const numberBytes = 8

// suffixes are the kinds whose keys end with raw bytes, and how many.
var suffixes = map[byte]int{
	kindEntry: numberBytes, kindPolicy: numberBytes, kindPending: numberBytes, kindLoad: numberBytes, kindBlockVersion: numberBytes,
	kindChargeOf: numberBytes, kindOpen: numberBytes, kindIdempotency: 32, kindBlob: numberBytes, kindHeld: numberBytes,
	kindDraw: 32 + numberBytes, kindDrawOf: numberBytes, kindKeyHash: 32, kindChange: numberBytes, kindWriteOff: numberBytes,
	kindReportOf: numberBytes, kindRun: numberBytes, kindScheduled: numberBytes,
	kindRequests: numberBytes, kindRequestOf: numberBytes, kindRequestOpen: numberBytes,
	kindHashes:    numberBytes,
	kindRestore:   numberBytes,
	kindEvents:    numberBytes,
	kindProposals: numberBytes, kindProposalOpen: numberBytes,
}

// partCounts are how many parts the keys of a kind have.
var partCounts = map[byte]int{
	kindMeta: 0, kindEntry: 0, kindNumber: 0, kindDataset: 1, kindPolicy: 1, kindPending: 1, kindLoad: 1, kindLoadName: 2, kindBlock: 2,
	kindBlockVersion: 2, kindAccount: 3, kindAccountOf: 3, kindCharge: 1, kindChargeOf: 1, kindOpen: 0, kindIdempotency: 1,
	kindRelease: 1, kindBlob: 1, kindUnfinished: 1, kindHolder: 2, kindHeld: 1, kindDraw: 1, kindDrawOf: 2, kindConsumer: 1, kindSubject: 1,
	kindAllotment: 2, kindKey: 1, kindKeyOf: 2, kindKeyHash: 0, kindChange: 0, kindWriteOff: 0,
	kindErasure: 2, kindErasureEnd: 2, kindRetired: 1, kindReport: 1, kindReportOf: 1, kindReportEnd: 1, kindRun: 1, kindScheduled: 0,
	kindRequest: 1, kindRequestEnd: 1, kindRequests: 0, kindRequestOf: 1, kindRequestOpen: 0, kindRequestOn: 2,
	kindHashes:   0,
	kindRestore:  0,
	kindEvents:   0,
	kindProposal: 1, kindProposalEnd: 1, kindProposals: 0, kindProposalOpen: 0,
}

// words name the kinds of key for people.
var words = map[byte]string{
	kindMeta: "the ledger's own record", kindEntry: "an entry", kindNumber: "the last number", kindDataset: "a dataset", kindPolicy: "a policy",
	kindPending: "a load under way", kindLoad: "a load", kindLoadName: "the name of a load", kindBlock: "the version of a block",
	kindBlockVersion: "what a version added to a block", kindAccount: "an account", kindAccountOf: "the list of a consumer's accounts",
	kindCharge: "a charge", kindChargeOf: "the list of a consumer's charges", kindOpen: "the list of open charges",
	kindIdempotency: "an idempotency key", kindRelease: "a release", kindBlob: "a piece of a release", kindUnfinished: "an unfinished release",
	kindHolder: "who holds a release", kindHeld: "the list of a consumer's releases", kindDraw: "the draws of a plan",
	kindDrawOf: "a consumer's draws of a plan", kindConsumer: "a consumer", kindSubject: "the subject of a consumer's tokens", kindAllotment: "an allotment", kindKey: "a key",
	kindKeyOf: "the list of a consumer's keys", kindKeyHash: "the secret of a key", kindChange: "a change", kindWriteOff: "a write-off",
	kindErasure: "an erasure", kindErasureEnd: "the end of an erasure", kindRetired: "what is retired",
	kindReport: "a report", kindReportEnd: "the end of a report", kindReportOf: "the list of a consumer's reports", kindRun: "a run of a report", kindScheduled: "the list of scheduled reports",
	kindRequest: "a budget request", kindRequestEnd: "the decision on a budget request", kindRequests: "the list of budget requests",
	kindRequestOf: "the list of a consumer's budget requests", kindRequestOpen: "the list of open budget requests", kindRequestOn: "the open budget request of a consumer on a dataset",
	kindHashes:   "the hashes kept with an entry",
	kindRestore:  "a restore",
	kindEvents:   "events",
	kindProposal: "a proposal", kindProposalEnd: "the end of a proposal", kindProposals: "the list of proposals", kindProposalOpen: "the list of open proposals",
}

// word names a key's kind.
func word(key []byte) string {
	if w, ok := words[key[0]]; ok {
		return w
	}
	return "something of a kind that this version of discreet does not know"
}

// key builds a key of its kind from its parts.
func key(kind byte, parts ...string) []byte {
	k := []byte{kind}
	for _, p := range parts {
		k = append(k, strings.ReplaceAll(p, "\x00", "\x00\xff")...)
		k = append(k, 0, 1)
	}
	return k
}

func numberedKey(n uint64, kind byte, parts ...string) []byte {
	return binary.BigEndian.AppendUint64(key(kind, parts...), n)
}

// split reads the parts of a key and its raw suffix. It accepts only what key builds.
func split(k []byte) (parts []string, suffix []byte, err error) {
	count, known := partCounts[k[0]]
	if !known {
		return nil, nil, misfitf("it writes %s", word(k))
	}
	rest := k[1:]
	for range count {
		end := bytes.Index(rest, []byte{0, 1})
		if end < 0 {
			return nil, nil, misfitf("the key of %s is malformed", word(k))
		}
		part := rest[:end]
		if n := bytes.Count(part, []byte{0}); n != bytes.Count(part, []byte{0, 0xff}) {
			return nil, nil, misfitf("the key of %s is malformed", word(k))
		}
		parts = append(parts, strings.ReplaceAll(string(part), "\x00\xff", "\x00"))
		rest = rest[end+2:]
	}
	if len(rest) != suffixes[k[0]] {
		return nil, nil, misfitf("the key of %s is malformed", word(k))
	}
	return parts, rest, nil
}

func number(suffix []byte) uint64 { return binary.BigEndian.Uint64(suffix) }
