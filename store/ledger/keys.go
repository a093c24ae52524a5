package ledger

import (
	"crypto/sha256"
	"encoding/binary"
	"strings"

	"github.com/discreet-analytics/discreet/dp"
)

// format is the version of keys and records that this package reads and writes.
const format = 3

// The kinds of key: the first byte. store/FORMAT.md describes each.
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
	kindSubject      = 'Z' // subject -> the consumer that has it
	kindKey          = 'K'
	kindKeyOf        = 'k'
	kindKeyHash      = 'W'
	kindAllotment    = 'M'
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

const (
	numberBytes = 8
	digestBytes = 32
)

// makeKey begins with the kind; the parts follow, each up to an end mark that no part can hold, so that no part
// can be taken for another and keys sort by their parts as text.
func makeKey(kind byte, parts ...string) []byte {
	size := 1 + digestBytes
	for _, p := range parts {
		size += len(p) + 2
	}
	key := make([]byte, 1, size)
	key[0] = kind
	for _, p := range parts {
		for {
			before, after, zero := strings.Cut(p, "\x00")
			key = append(key, before...)
			if !zero {
				break
			}
			key = append(key, 0, 0xff)
			p = after
		}
		key = append(key, 0, 1)
	}
	return key
}

// partsOf reads the parts of a key that makeKey made.
func partsOf(key []byte) []string {
	parts := strings.Split(string(key[1:]), "\x00\x01")
	parts = parts[:len(parts)-1]
	for i, p := range parts {
		parts[i] = strings.ReplaceAll(p, "\x00\xff", "\x00")
	}
	return parts
}

// numbered ends a key with a number, so that keys sort by it.
func numbered(key []byte, n uint64) []byte { return binary.BigEndian.AppendUint64(key, n) }

// numberOf reads the number at a key's end.
func numberOf(key []byte) uint64 { return binary.BigEndian.Uint64(key[len(key)-numberBytes:]) }

func metaKey() []byte                  { return makeKey(kindMeta) }
func entryKey(number uint64) []byte    { return numbered(makeKey(kindEntry), number) }
func hashesKey(entry uint64) []byte    { return numbered(makeKey(kindHashes), entry) }
func eventsKey(number uint64) []byte   { return numbered(makeKey(kindEvents), number) }
func numberKey() []byte                { return makeKey(kindNumber) }
func datasetKey(dataset string) []byte { return makeKey(kindDataset, dataset) }
func policyKey(dataset string, version uint64) []byte {
	return numbered(makeKey(kindPolicy, dataset), version)
}

func pendingKey(dataset string, load uint64) []byte {
	return numbered(makeKey(kindPending, dataset), load)
}
func loadKey(dataset string, load uint64) []byte { return numbered(makeKey(kindLoad, dataset), load) }
func loadNameKey(dataset, name string) []byte    { return makeKey(kindLoadName, dataset, name) }
func blockKey(dataset, block string) []byte      { return makeKey(kindBlock, dataset, block) }
func blockVersionKey(dataset, block string, version uint64) []byte {
	return numbered(makeKey(kindBlockVersion, dataset, block), version)
}

// accountKey is a cap's where consumer is empty, else an allotment's.
func accountKey(dataset, block, consumer string) []byte {
	return makeKey(kindAccount, dataset, block, consumer)
}

// accountOfKey lists the allotment accounts of a consumer.
func accountOfKey(consumer, dataset, block string) []byte {
	return makeKey(kindAccountOf, consumer, dataset, block)
}

func chargeKey(id string) []byte { return makeKey(kindCharge, id) }
func chargeOfKey(consumer string, number uint64) []byte {
	return numbered(makeKey(kindChargeOf, consumer), number)
}

// openKey lists the charges without an outcome.
func openKey(number uint64) []byte { return numbered(makeKey(kindOpen), number) }

// idempotencyKey hashes the caller's key, whose length and bytes are the caller's choice.
func idempotencyKey(consumer, key string) []byte {
	sum := sha256.Sum256([]byte(key))
	return append(makeKey(kindIdempotency, consumer), sum[:]...)
}

func releaseKey(id string) []byte              { return makeKey(kindRelease, id) }
func blobKey(blob string, chunk uint64) []byte { return numbered(makeKey(kindBlob, blob), chunk) }
func unfinishedKey(blob string) []byte         { return makeKey(kindUnfinished, blob) }
func holderKey(consumer, release string) []byte {
	return makeKey(kindHolder, consumer, release)
}
func heldKey(consumer string, number uint64) []byte {
	return numbered(makeKey(kindHeld, consumer), number)
}

// drawsKey begins the keys of the draws of a plan over given block versions; drawKey is one of them, in the
// order of publishing.
func drawsKey(plan string, versions [digestBytes]byte) []byte {
	return append(makeKey(kindDraw, plan), versions[:]...)
}

func drawKey(plan string, versions [digestBytes]byte, number uint64) []byte {
	return numbered(drawsKey(plan, versions), number)
}

// drawOfKey lists the draws of a plan that a consumer holds, in the order in which they came to hold them.
func drawOfKey(consumer, plan string, number uint64) []byte {
	return numbered(makeKey(kindDrawOf, consumer, plan), number)
}

func consumerKey(name string) []byte           { return makeKey(kindConsumer, name) }
func subjectKey(subject string) []byte         { return makeKey(kindSubject, subject) }
func keyKey(id string) []byte                  { return makeKey(kindKey, id) }
func keyOfKey(consumer, id string) []byte      { return makeKey(kindKeyOf, consumer, id) }
func keyHashKey(hash [digestBytes]byte) []byte { return append(makeKey(kindKeyHash), hash[:]...) }
func allotmentKey(consumer, dataset string) []byte {
	return makeKey(kindAllotment, consumer, dataset)
}
func changeKey(number uint64) []byte          { return numbered(makeKey(kindChange), number) }
func erasureKey(dataset, id string) []byte    { return makeKey(kindErasure, dataset, id) }
func retirementKey(dataset string) []byte     { return makeKey(kindRetired, dataset) }
func erasureEndKey(dataset, id string) []byte { return makeKey(kindErasureEnd, dataset, id) }
func reportKey(id string) []byte              { return makeKey(kindReport, id) }
func reportEndKey(id string) []byte           { return makeKey(kindReportEnd, id) }
func reportOfKey(consumer string, number uint64) []byte {
	return numbered(makeKey(kindReportOf, consumer), number)
}
func runKey(report string, run uint64) []byte { return numbered(makeKey(kindRun, report), run) }

// scheduledKey lists the reports that have runs until they are cancelled.
func scheduledKey(number uint64) []byte { return numbered(makeKey(kindScheduled), number) }

func requestKey(id string) []byte         { return makeKey(kindRequest, id) }
func requestEndKey(id string) []byte      { return makeKey(kindRequestEnd, id) }
func requestsKey(number uint64) []byte    { return numbered(makeKey(kindRequests), number) }
func requestOpenKey(number uint64) []byte { return numbered(makeKey(kindRequestOpen), number) }
func requestOfKey(consumer string, number uint64) []byte {
	return numbered(makeKey(kindRequestOf, consumer), number)
}

// requestOnKey is of the open request of a consumer on a dataset: there is one at a time.
func requestOnKey(consumer, dataset string) []byte { return makeKey(kindRequestOn, consumer, dataset) }

func restoreKey(number uint64) []byte      { return numbered(makeKey(kindRestore), number) }
func proposalKey(id string) []byte         { return makeKey(kindProposal, id) }
func proposalEndKey(id string) []byte      { return makeKey(kindProposalEnd, id) }
func proposalsKey(number uint64) []byte    { return numbered(makeKey(kindProposals), number) }
func proposalOpenKey(number uint64) []byte { return numbered(makeKey(kindProposalOpen), number) }

func writeOffKey(number uint64) []byte { return numbered(makeKey(kindWriteOff), number) }

// digestVersions identifies the rows of all blocks of a snapshot as they stood. Each further part begins with a block's
// name of length 0, which no block has, so that no two snapshots are written alike. The versions of policies are the
// plan's to tell apart.
func digestVersions(s dp.Snapshot) [digestBytes]byte {
	text := appendVersions(nil, s.Blocks)
	for _, part := range s.Also {
		text = appendName(append(text, 0), part.Dataset)
		text = appendVersions(text, part.Blocks)
	}
	return sha256.Sum256(text)
}

func appendVersions(text []byte, versions []dp.BlockVersion) []byte {
	for _, v := range versions {
		text = binary.BigEndian.AppendUint64(appendName(text, v.Block), v.Version)
	}
	return text
}

func appendName(text []byte, name string) []byte {
	return append(binary.AppendUvarint(text, uint64(len(name))), name...)
}
