package verify

import (
	"time"
)

// retirementRecord says that all blocks of a dataset are retired that end before a month begins, under which version of its
// policy, and up to which month their rows are gone.
type retirementRecord struct {
	Before        string
	At            time.Time
	PolicyVersion uint64
	Gone          string
	GoneAt        time.Time
}

// retirements replays what is retired: only ever more, as the policy in force says at the time of the entry; and that its
// rows are gone, which were retired before.
func (s *step) retirements() error {
	for _, w := range s.of(kindRetired) {
		names, _, err := split(w.key)
		if err != nil {
			return err
		}
		r, err := put[retirementRecord](s, w, whole)
		if err != nil {
			return err
		}
		d := s.datasets[names[0]]
		if d == nil {
			return misfitf("it retires blocks of a dataset that does not exist")
		}
		before := d.retired
		switch {
		case r.Before == before.Before:
			s.done = append(s.done, "retire-end")
			if !r.At.Equal(before.At) || r.PolicyVersion != before.PolicyVersion || r.Gone <= before.Gone || r.Gone > r.Before {
				return misfitf("rows of dataset %s are gone of what is not retired, or come back, or it changes what is retired", names[0])
			}
		case r.Before < before.Before || r.Gone != before.Gone || !r.GoneAt.Equal(before.GoneAt):
			return misfitf("a retired block of dataset %s comes back", names[0])
		default:
			s.done = append(s.done, "retire")
			want, err := d.policy.retires(r.At)
			if err != nil {
				return err
			}
			if late := r.At.Sub(s.entry.at); r.PolicyVersion != d.record.PolicyVersion || r.Before != want || late < 0 || late >= blink {
				return misfitf("dataset %s retires other blocks than the policy in force says at that time", names[0])
			}
		}
		d.retired = r
	}
	return nil
}

// retires is the month before which blocks are to end that the policy retires at a time; empty: it retains for ever.
func (p policyRecord) retires(at time.Time) (string, error) {
	if p.RetainMonths == 0 || p.Time == nil {
		return "", nil
	}
	zone, err := time.LoadLocation(p.Time.Timezone)
	if err != nil {
		return "", misfitf("the policy of dataset %s has a time zone that is not known here", p.Name)
	}
	at = at.In(zone)
	months := at.Year()*12 + int(at.Month()) - 1 - p.RetainMonths
	return time.Date(months/12, time.Month(months%12+1), 1, 0, 0, 0, 0, time.UTC).Format("2006-01"), nil
}

// isRetired tells whether a block ends before what is retired does.
func (d *dataset) isRetired(block string) bool {
	if d.retired.Before == "" {
		return false
	}
	_, last := span(block)
	first, _ := span(d.retired.Before)
	return last < first
}
