package columnar

// tally is what one worker added up, on disk as far as it does not fit into memory.
type tally struct {
	totals *totals
	bytes  int    // that totals may take
	dir    string // where what does not fit goes
	spill  *spill // what did not fit; nil: all did
}

// makeRoom moves totals to disk where they take too much memory. Of no customer are more blocks to come.
func (t *tally) makeRoom() (err error) {
	if !t.totals.full(t.bytes) {
		return nil
	}
	if t.spill == nil {
		if t.spill, err = newSpill(t.dir); err != nil {
			return err
		}
	}
	if err := t.spill.write(t.totals); err != nil {
		return err
	}
	t.totals.empty()
	return nil
}

// sources are all that was added up, sorted by partition.
func (t *tally) sources() []source {
	all := []source{newInMemory(t.totals)}
	if t.spill != nil {
		all = append(all, t.spill.sources(t.totals)...)
	}
	return all
}

func (t *tally) close() error {
	if t.spill == nil {
		return nil
	}
	return t.spill.close()
}
