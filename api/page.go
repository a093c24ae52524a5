package api

import (
	"sort"

	"github.com/discreet-analytics/discreet/dp"
)

// PageParams are the parameters of every list. (Exported, as the other embedded parameters are, because huma
// finds no others.)
type PageParams struct {
	Cursor string `query:"cursor" maxLength:"500" doc:"Where the last page ended: its next"`
	Limit  int    `query:"limit" minimum:"1" maximum:"500" default:"100" doc:"Entries on a page at most"`
}

func (in PageParams) page() Page { return Page(in) }

// paged cuts one page out of a list that is sorted by name, which is also the cursor: entries that come or go
// between two pages move no other.
func paged[T any](list []T, name func(T) string, p Page) (page []T, next string) {
	start := sort.Search(len(list), func(i int) bool { return name(list[i]) > p.Cursor })
	if p.Cursor == "" {
		start = 0
	}
	end := min(start+p.Limit, len(list))
	if end < len(list) {
		next = name(list[end-1])
	}
	return list[start:end], next
}

// mayAsk tells whether a consumer may know of a dataset: who may not receive its answers learns not even that
// it exists, unless they run the house.
func mayAsk(c dp.Consumer, p dp.Policy) bool {
	if c.Role != dp.Product && c.Role != dp.Analyst {
		return true
	}
	for _, a := range p.Audiences {
		if a == c.Audience {
			return true
		}
	}
	return false
}
