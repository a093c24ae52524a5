package verify

import (
	"bytes"
	"crypto/sha256"
	"encoding/json"
	"slices"
)

// pieceBytes is the size of every piece of a release but the last.
const pieceBytes = 256 << 10

// publish holds that a charge ends with the release that it paid for, that its bytes are those that are kept, and
// that its consumer holds it.
func (s *step) publish(c *chargeRecord) error {
	id := c.Charge.ID
	w := s.writes[string(key(kindRelease, c.Release))]
	if w == nil {
		return misfitf("charge %s ends with a release that it does not publish", id)
	}
	r, err := putOnce[releaseRecord](s, w, whole)
	if err != nil {
		return err
	}
	s.count.Releases++
	if r.Charge != id {
		return misfitf("release %s belongs to another charge than %s", c.Release, id)
	}
	answer, err := s.readRelease(&r, c)
	if err != nil {
		return err
	}
	for _, part := range []struct {
		name string
		same bool
	}{
		{"id", answer.ID == c.Release},
		{"charge", answer.Charge.ID == id},
		{"dataset", answer.Dataset == c.Charge.Dataset},
		{"plan", answer.Plan == c.Plan},
		{"policy version", answer.PolicyVersion == c.Snapshot.PolicyVersion},
		{"block versions", slices.Equal(answer.Blocks, c.Snapshot.Blocks)},
		{"further blocks", slices.EqualFunc(answer.Also, c.Snapshot.Also, snapshot.equal)},
		{"metrics", slices.Equal(answer.Metrics, c.Metrics)},
	} {
		if !part.same {
			return misfitf("release %s does not match charge %s: its %s differs", c.Release, id, part.name)
		}
	}
	s.numbers = append(s.numbers, r.Number)
	versions := digestOf(c.Snapshot)
	draw := append(key(kindDraw, c.Plan), versions[:]...)
	if err := s.want(append(draw, encodeNumber(r.Number)[1:]...), []byte(c.Release)); err != nil {
		return err
	}
	return s.hold(c)
}

// hold holds that the consumer of an ended charge came to hold its release by it.
func (s *step) hold(c *chargeRecord) error {
	consumer := c.Charge.Consumer
	w := s.writes[string(key(kindHolder, consumer, c.Release))]
	if w == nil {
		return misfitf("charge %s ends with a release that its consumer does not come to hold", c.Charge.ID)
	}
	h, err := putOnce[holderRecord](s, w, whole)
	if err != nil {
		return err
	}
	if h.Charge != c.Charge.ID {
		return misfitf("a release is held by another charge than the one that paid for it")
	}
	s.numbers = append(s.numbers, h.Number)
	if err := s.want(numberedKey(h.Number, kindHeld, consumer), []byte(c.Release)); err != nil {
		return err
	}
	versions := digestOf(c.Snapshot)
	return s.wantRecord(numberedKey(h.Number, kindDrawOf, consumer, c.Plan), drawRecord{Release: c.Release, Versions: versions[:]})
}

// readRelease reads the pieces of a release, which this entry or the ones before it wrote.
func (s *step) readRelease(r *releaseRecord, c *chargeRecord) (answerRecord, error) {
	if !s.from.figures() {
		return s.readSummary(r, c)
	}
	text, pieces, err := s.from.blob(r.Blob, r.Bytes)
	if err != nil {
		return answerRecord{}, err
	}
	sum := sha256.Sum256(text)
	if int64(len(text)) != r.Bytes || !bytes.Equal(sum[:], r.Sum) {
		return answerRecord{}, misfitf("the bytes of release %s are not those that were published", c.Release)
	}
	if early, err := s.writtenBefore(r, c, pieces); err != nil {
		return answerRecord{}, err
	} else if !early {
		for i := range pieces {
			piece := text[i*pieceBytes : min((i+1)*pieceBytes, len(text))]
			if err := s.want(numberedKey(uint64(i), kindBlob, r.Blob), piece); err != nil {
				return answerRecord{}, err
			}
		}
	}
	if same, err := isSummary(r.Summary, text); err != nil || !same {
		if err == nil {
			err = misfitf("the summary of release %s is not that of its bytes", c.Release)
		}
		return answerRecord{}, err
	}
	return decodeRecord[answerRecord](text, parts)
}

// writtenBefore claims the end of a release whose pieces earlier entries wrote; it is false where this one does.
func (s *step) writtenBefore(r *releaseRecord, c *chargeRecord, pieces int) (bool, error) {
	stored, unfinished := s.unfinished[r.Blob]
	if !unfinished {
		return false, nil
	}
	if stored != pieces {
		return true, misfitf("release %s is published before all of it was written", c.Release)
	}
	delete(s.unfinished, r.Blob)
	return true, s.wantGone(key(kindUnfinished, r.Blob))
}

// readSummary reads the summary of a release whose pieces are not kept here. Of these there is their number, and their
// length where this entry writes them.
func (s *step) readSummary(r *releaseRecord, c *chargeRecord) (answer answerRecord, err error) {
	if r.Bytes < 1 || len(r.Sum) != sha256.Size {
		return answer, misfitf("release %s has no bytes", c.Release)
	}
	pieces := int((r.Bytes + pieceBytes - 1) / pieceBytes)
	early, err := s.writtenBefore(r, c, pieces)
	if err != nil {
		return answer, err
	}
	for i := 0; i < pieces && !early; i++ {
		w := s.writes[string(numberedKey(uint64(i), kindBlob, r.Blob))]
		if w == nil || w.deleted || s.holds(w.key) || w.length != uint64(min(pieceBytes, r.Bytes-int64(i)*pieceBytes)) {
			return answer, misfitf("release %s is published without all of its pieces", c.Release)
		}
		w.claimed = true
	}
	var short map[string]json.RawMessage
	if json.Unmarshal(r.Summary, &short) != nil {
		return answer, errMalformed
	}
	if string(short["Groups"]) != "null" || string(short["NoisedCoordinates"]) != "null" {
		return answer, misfitf("the summary of release %s holds figures", c.Release)
	}
	return summaryOf(*r)
}

// summaryOf reads what matters of the summary of a release.
func summaryOf(r releaseRecord) (answer answerRecord, err error) {
	if json.Unmarshal(r.Summary, &answer) != nil {
		return answer, errMalformed
	}
	return answer, nil
}

// isSummary tells whether a summary is its release without figures.
func isSummary(summary, release []byte) (bool, error) {
	var short map[string]json.RawMessage
	if json.Unmarshal(summary, &short) != nil {
		return false, errMalformed
	}
	whole, err := decodeRecord[map[string]json.RawMessage](release, parts)
	if err != nil {
		return false, err
	}
	for _, figures := range []string{"Groups", "NoisedCoordinates"} {
		if string(short[figures]) != "null" {
			return false, nil
		}
		delete(short, figures)
		delete(whole, figures)
	}
	for name, value := range short {
		if !bytes.Equal(whole[name], value) {
			return false, nil
		}
	}
	return len(short) == len(whole), nil
}

// pieces replays the pieces of large releases: written one by one under a note, and removed with it where the
// release was never published.
func (s *step) pieces() error {
	for _, w := range s.of(kindUnfinished) {
		p, _, err := split(w.key)
		if err != nil {
			return err
		}
		blob := p[0]
		stored, known := s.unfinished[blob]
		if w.deleted {
			if !known {
				return misfitf("it removes a release that is not under way")
			}
			for i := range stored {
				if err := s.wantGone(numberedKey(uint64(i), kindBlob, blob)); err != nil {
					return err
				}
			}
			w.claimed = true
			delete(s.unfinished, blob)
			s.done = append(s.done, "clear")
			continue
		}
		u, err := put[unfinishedRecord](s, w, whole)
		if err != nil {
			return err
		}
		piece := s.writes[string(numberedKey(uint64(stored), kindBlob, blob))]
		if u.Blob != blob || u.Pieces != stored+1 || piece == nil || piece.deleted || s.holds(piece.key) {
			return misfitf("the pieces of a release do not follow each other")
		}
		piece.claimed = true
		s.unfinished[blob] = u.Pieces
		s.done = append(s.done, "piece")
	}
	return nil
}
