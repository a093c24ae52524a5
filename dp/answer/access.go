package answer

import (
	"errors"
	"slices"

	"github.com/discreet-analytics/discreet/dp"
)

// Access is what a policy says of who may ask its dataset and read what was drawn from it, and for what.
type Access struct {
	Audiences []dp.Audience
	Purposes  []string
}

// AccessOf is what a policy says.
func AccessOf(p dp.Policy) Access { return Access{p.Audiences, p.Purposes} }

// MayAsk holds a question to the purposes and audiences of a dataset, and to the asker's own. An audience that the
// policy does not list may not learn that the dataset exists.
func (a Access) MayAsk(asker dp.Consumer, purpose string) error {
	if !slices.Contains(a.Audiences, asker.Audience) {
		return errNoDataset()
	}
	if purpose == "" {
		return nil // the plan says that it is missing, along with whatever else is
	}
	if !slices.Contains(a.Purposes, purpose) {
		return &dp.Error{Code: dp.CodePurposeNotAllowed, Message: "the dataset's policy does not list this purpose: state one that it lists"}
	}
	if !slices.Contains(asker.Purposes, purpose) {
		return &dp.Error{Code: dp.CodePurposeNotAllowed, Message: "you do not hold this purpose: state one that you hold, or ask an officer for it"}
	}
	return nil
}

// ErrHidden says that something was drawn from a dataset that the reader may not know of: whoever reads it is to be told
// that it does not exist.
var ErrHidden = errors.New("drawn from a dataset whose policy does not list the reader's audience")

// MayRead holds a reader to the policies in force of all datasets that something was drawn from: whether they held it when
// the policies, or they themselves, were others does not matter. To read again states no purpose: it takes one for which
// the reader may ask all of these datasets, since the same question under that purpose would be answered by the same figures
// for nothing. The error is ErrHidden, or a dp.Error with CodePurposeNotAllowed.
func MayRead(reader dp.Consumer, drawnFrom ...Access) error {
	for _, a := range drawnFrom {
		if !slices.Contains(a.Audiences, reader.Audience) {
			return ErrHidden
		}
	}
	asksAll := func(purpose string) bool {
		return !slices.ContainsFunc(drawnFrom, func(a Access) bool { return !slices.Contains(a.Purposes, purpose) })
	}
	if !slices.ContainsFunc(reader.Purposes, asksAll) {
		return &dp.Error{Code: dp.CodePurposeNotAllowed, Message: "you hold no purpose for which the datasets that this was drawn from may be asked any more: ask an officer for one"}
	}
	return nil
}

// DatasetsOf names the datasets that a release was drawn from, each once.
func DatasetsOf(r dp.Release) []string {
	datasets := []string{r.Dataset}
	for _, also := range r.Also {
		if !slices.Contains(datasets, also.Dataset) {
			datasets = append(datasets, also.Dataset)
		}
	}
	return datasets
}

// hidden tells an answer that is not there for the asker from one that could not be read.
func hidden(err error) bool {
	var refused *dp.Error
	return errors.As(err, &refused) && refused.Code == dp.CodeNotFound
}

func errNoDataset() error {
	return &dp.Error{Code: dp.CodeNotFound, Message: "there is no such dataset: list the datasets that you may ask"}
}
