package archive

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"text/tabwriter"

	"github.com/discreet-analytics/discreet/dp"
	"github.com/discreet-analytics/discreet/dp/exposure"
)

// Guarantee is what is guaranteed about every dataset of a ledger, and what charges so far add up to. All amounts are exact
// decimal text. It follows from the log alone, and store/ledger/verify computes it again without this module's code.
type Guarantee struct {
	Format   string             `json:"format"`
	Ledger   string             `json:"ledger"`
	Size     uint64             `json:"size"` // entries of the log that it follows from
	Datasets []DatasetGuarantee `json:"datasets"`
}

// GuaranteeFormat is the version of a guarantee's fields.
const GuaranteeFormat = "discreet-guarantee/1"

// DatasetGuarantee is that of one dataset: of all consumers together first, then of each by name.
type DatasetGuarantee struct {
	Dataset       string           `json:"dataset"`
	PolicyVersion uint64           `json:"policy_version"`
	Block         string           `json:"block"`
	Population    int64            `json:"population"`
	Linked        []string         `json:"linked"`
	Owners        []OwnerGuarantee `json:"owners"`
}

// OwnerGuarantee is that of one consumer, or of all together.
type OwnerGuarantee struct {
	Consumer  string    `json:"consumer"` // empty: all together
	InForce   Amount    `json:"in_force"`
	Certified Amount    `json:"certified"` // the largest that was ever in force
	ByCap     bool      `json:"by_cap"`
	Promises  []Promise `json:"promises"`
	Spent     []Spent   `json:"spent"`
}

// Amount is a budget or a loss.
type Amount struct {
	Epsilon string `json:"epsilon"`
	Delta   string `json:"delta"`
}

// Promise is the guarantee for all rows of one customer in so many blocks.
type Promise struct {
	Scope   string `json:"scope"`
	Blocks  int64  `json:"blocks"`
	Epsilon string `json:"epsilon"` // empty where it is too large to be written
	Delta   string `json:"delta"`
	Vacuous bool   `json:"vacuous"`
}

// Spent is what charges add up to, in the block or year where that is most.
type Spent struct {
	Scope        string  `json:"scope"`
	Name         string  `json:"name"`
	Blocks       int64   `json:"blocks"`
	Charges      int64   `json:"charges"`
	Conservative int64   `json:"conservative"`
	Basic        Amount  `json:"basic"`
	Rho          string  `json:"rho"` // empty where no bound is known
	DeltaZ       string  `json:"delta_z"`
	Zero         *Amount `json:"zcdp"` // null where no bound is known
	Epsilon      string  `json:"epsilon"`
	By           string  `json:"by"`
}

// Guaranteed works out the guarantee of a ledger.
func Guaranteed(s Snapshot) (Guarantee, error) {
	id, size := s.Log()
	g := Guarantee{Format: GuaranteeFormat, Ledger: id, Size: size, Datasets: []DatasetGuarantee{}}
	last := ""
	err := s.Policies(func(p dp.VersionedPolicy) error {
		if p.Name == last {
			return nil
		}
		last = p.Name
		d, err := datasetGuarantee(s, p.Name)
		g.Datasets = append(g.Datasets, d)
		return err
	})
	return g, err
}

func datasetGuarantee(s Snapshot, name string) (DatasetGuarantee, error) {
	book, err := s.Exposure(name)
	if err != nil {
		return DatasetGuarantee{}, err
	}
	policy := book.Datasets[0].Policy
	d := DatasetGuarantee{Dataset: name, PolicyVersion: policy.Version, Block: string(policy.Unit.Block), Population: policy.Population, Linked: []string{}, Owners: []OwnerGuarantee{}}
	state := exposure.State(book, exposure.Assumed{}, 1)
	d.Linked = append(d.Linked, state.Linked...)
	for _, o := range state.Owners {
		d.Owners = append(d.Owners, ownerGuarantee(o))
	}
	return d, nil
}

func ownerGuarantee(o exposure.Owner) OwnerGuarantee {
	out := OwnerGuarantee{Consumer: o.Consumer, InForce: amount(o.Budget), Certified: amount(o.Certified), ByCap: o.ByCap, Promises: []Promise{}, Spent: []Spent{}}
	for _, p := range o.Promises {
		promise := Promise{Scope: string(p.Scope), Blocks: p.Blocks, Delta: p.Budget.Delta.String(), Vacuous: p.Vacuous}
		if p.Budget.Epsilon != exposure.TooLarge {
			promise.Epsilon = p.Budget.Epsilon.String()
		}
		out.Promises = append(out.Promises, promise)
	}
	for _, s := range o.Spent {
		spent := Spent{
			Scope: string(s.Scope), Name: s.Name, Blocks: s.Blocks, Charges: s.Charges, Conservative: s.Conservative,
			Basic: amount(s.Basic), DeltaZ: s.DeltaZ.String(), Epsilon: s.Epsilon.String(), By: "basic",
		}
		if s.Rho != dp.RhoUnknown {
			spent.Rho = s.Rho.String()
		}
		if s.Known {
			zero := amount(s.Zero)
			spent.Zero = &zero
		}
		if s.ByZero {
			spent.By = "zcdp"
		}
		out.Spent = append(out.Spent, spent)
	}
	return out
}

func amount(b dp.Budget) Amount { return Amount{b.Epsilon.String(), b.Delta.String()} }

// ParseGuarantee reads a guarantee as it is written in an archive.
func ParseGuarantee(text []byte) (g Guarantee, err error) {
	if err = json.Unmarshal(text, &g); err == nil && g.Format != GuaranteeFormat {
		err = errors.New("it has another format")
	}
	if err != nil {
		return g, fmt.Errorf("reading a guarantee: %w", err)
	}
	return g, nil
}

// Text is a guarantee for people. It says which of its figures are a guarantee and which are accounting (dp/PRIVACY.md,
// sections 1 and 3).
func Text(g Guarantee) []byte {
	var b bytes.Buffer
	fmt.Fprintf(&b, "What the ledger %s guarantees, from its first %d entries\n\n", g.Ledger, g.Size)
	b.WriteString(preamble)
	for _, d := range g.Datasets {
		fmt.Fprintf(&b, "\nDataset %s\n\n", d.Dataset)
		fmt.Fprintf(&b, "Policy version %d. One block is a %s; %d customers are declared.\n", d.PolicyVersion, blockWord(d.Block), d.Population)
		if len(d.Linked) > 0 {
			fmt.Fprintf(&b, "Its rows may be joined with those of %s: a customer of both may lose what both allow.\n", strings.Join(d.Linked, ", "))
		}
		for _, o := range d.Owners {
			who := "All consumers together"
			if o.Consumer != "" {
				who = "Consumer " + o.Consumer
			}
			fmt.Fprintf(&b, "\n%s. In force for each block: epsilon %s, delta %s. The largest ever in force: epsilon %s, delta %s", who, o.InForce.Epsilon, o.InForce.Delta, o.Certified.Epsilon, o.Certified.Delta)
			if o.ByCap {
				b.WriteString(" (the cap's, which holds for everybody)")
			}
			b.WriteString(".\n")
			writeOwner(&b, o)
		}
	}
	return b.Bytes()
}

const preamble = `A guarantee of (epsilon, delta) for some rows of one customer says: whatever is asked, the probability of
any finding differs by a factor of at most e^epsilon, but for a probability of delta, between the data with these
rows and without them. "Guaranteed" is that, for the largest budget that was ever in force: of one block by the
theorem of the two certificates, of several by group privacy. It holds whatever is still asked under budgets that
are no larger. A consumer's own is about the direct answers to it; what it learns from what others were told is
bounded by that of all consumers together.

"Spent" adds up the charges so far, in the block or the year where that is most. Of one block it is what was
charged. Over several blocks it is accounting, exact only for charges that were fixed in advance: it shows where one
stands, and promises nothing. PRIVACY.md, in this archive, has the theorems and their proofs.
`

func blockWord(block string) string {
	if block == "all" {
		return "customer's whole history"
	}
	return block
}

func writeOwner(b *bytes.Buffer, o OwnerGuarantee) {
	spent := map[string]Spent{}
	for _, s := range o.Spent {
		spent[s.Scope] = s
	}
	w := tabwriter.NewWriter(b, 0, 0, 2, ' ', 0)
	fmt.Fprintln(w, "\trows of\tblocks\tguaranteed epsilon\tdelta\tspent epsilon\tdelta\tby\tmost in\tcharges")
	for _, p := range o.Promises {
		epsilon := p.Epsilon
		if epsilon == "" {
			epsilon = "(too large)"
		}
		note := ""
		if p.Vacuous {
			note = " (says nothing)"
		}
		fmt.Fprintf(w, "\t%s\t%d\t%s\t%s%s", p.Scope, p.Blocks, epsilon, p.Delta, note)
		if s, ok := spent[p.Scope]; ok {
			delta := s.Basic.Delta
			if s.By == "zcdp" {
				delta = s.Zero.Delta
			}
			fmt.Fprintf(w, "\t%s\t%s\t%s\t%s\t%d", s.Epsilon, delta, s.By, s.Name, s.Charges)
			if s.Conservative > 0 {
				fmt.Fprintf(w, ", %d of them by group privacy", s.Conservative)
			}
		}
		fmt.Fprintln(w)
	}
	_ = w.Flush() // into memory: cannot fail
}
