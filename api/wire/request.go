package wire

import "time"

// BudgetTerms are what an allotment gives.
type BudgetTerms struct {
	Epsilon            Decimal    `json:"epsilon" doc:"On each block of the dataset"`
	Delta              Decimal    `json:"delta"`
	MaxEpsilonPerQuery Decimal    `json:"max_epsilon_per_query,omitempty" doc:"Absent: no maximum of its own"`
	Expires            *time.Time `json:"expires,omitempty" doc:"Absent: never"`
}

// NewBudgetRequest asks an officer for an allotment.
type NewBudgetRequest struct {
	Dataset            string     `json:"dataset" maxLength:"63" example:"transactions"`
	Epsilon            Decimal    `json:"epsilon" doc:"The whole of what may be spent on each block, and not what to add to it"`
	Delta              Decimal    `json:"delta,omitempty" doc:"0 when absent"`
	MaxEpsilonPerQuery Decimal    `json:"max_epsilon_per_query,omitempty" doc:"Absent: no maximum of its own"`
	Expires            *time.Time `json:"expires,omitempty" doc:"Absent: never"`
	Reason             string     `json:"reason" minLength:"1" maxLength:"1000" doc:"Why, on one line; kept for auditors"`
	Query              *Query     `json:"query,omitempty" doc:"A question that it is for, such as one that was refused. It is priced and never run"`
}

// BudgetRequest is a consumer's request for an allotment, and how it was decided.
type BudgetRequest struct {
	ID       string           `json:"id" example:"req_01k3x8"`
	Consumer string           `json:"consumer" doc:"Who asks" example:"growth-team"`
	Dataset  string           `json:"dataset" example:"transactions"`
	State    string           `json:"state" enum:"open,granted,denied,withdrawn" example:"open"`
	Asked    BudgetTerms      `json:"asked"`
	Reason   string           `json:"reason"`
	Query    *WantedQuery     `json:"query,omitempty" doc:"The question that it is for; absent where none was named"`
	Made     time.Time        `json:"made"`
	Decision *RequestDecision `json:"decision,omitempty" doc:"How it ended; absent while it is open"`
	Grounds  *RequestGrounds  `json:"grounds,omitempty" doc:"What it is decided on; for officers and auditors, of one request"`
}

// WantedQuery is a question that a request names.
type WantedQuery struct {
	Query   any     `json:"query" doc:"The question in its canonical form"`
	Purpose string  `json:"purpose" example:"product-analytics"`
	Price   []Touch `json:"price" doc:"What it cost on the dataset when the request was made"`
}

// RequestDecision is how a request ended.
type RequestDecision struct {
	By               string       `json:"by" doc:"The officer; of a withdrawn request, who had asked" example:"officer"`
	At               time.Time    `json:"at"`
	Reason           string       `json:"reason"`
	Seen             uint64       `json:"seen" doc:"The version of the allotment that was decided on; 0: there was none" example:"1"`
	Granted          *BudgetTerms `json:"granted,omitempty" doc:"What was given; absent unless it was granted"`
	AllotmentVersion uint64       `json:"allotment_version,omitempty" doc:"The version of the allotment that gives it" example:"2"`
}

// RequestGrounds are what a request is decided on.
type RequestGrounds struct {
	AllotmentVersion uint64         `json:"allotment_version" doc:"What a decision is made on: its If-Match; 0 where there is no allotment" example:"1"`
	Allotment        *Allotment     `json:"allotment,omitempty" doc:"That stands; absent where there is none"`
	Cap              Loss           `json:"cap" doc:"The dataset's, of each block, for all consumers together"`
	Terms            BudgetTerms    `json:"terms" doc:"Of the grant that is looked at: what was granted, else what is asked, with the numbers of the address"`
	SimilarQueries   int64          `json:"similar_queries" doc:"How many questions like the named one the grant would allow, as far as this dataset's accounts go; without a named one, questions at the default price about the block with least room" example:"12"`
	Blocks           []RequestBlock `json:"blocks" doc:"Blocks with rows, with charges of the consumer, or of the named question: the newest 400"`
	Fresh            RequestBlock   `json:"fresh" doc:"A block on which nobody spent anything"`
	Charges          []ChargeRecord `json:"charges" doc:"What spent it: the consumer's newest charges on the dataset"`
}

// RequestBlock is what was spent on a block, and what a grant would allow there.
type RequestBlock struct {
	Block          string  `json:"block,omitempty" doc:"Absent of a fresh one" example:"2026-01"`
	Spent          Loss    `json:"spent" doc:"By the consumer"`
	CapSpent       Loss    `json:"cap_spent" doc:"By all consumers"`
	LeftBefore     Decimal `json:"left_before" doc:"Largest epsilon that is admitted now"`
	LeftAfter      Decimal `json:"left_after" doc:"And after the grant: never more than the cap admits"`
	CapLeft        Decimal `json:"cap_left" doc:"That the cap admits, whatever the allotment"`
	SimilarQueries *int64  `json:"similar_queries,omitempty" doc:"How many questions like the named one, or at the default price, the grant would allow; absent where the question does not touch the block" example:"12"`
}

// NewRequestDecision decides a request. What is absent is granted as it was asked for.
type NewRequestDecision struct {
	Decision           string     `json:"decision" enum:"grant,deny" example:"grant"`
	Epsilon            Decimal    `json:"epsilon,omitempty" doc:"Another one than was asked for"`
	Delta              Decimal    `json:"delta,omitempty" doc:"Likewise"`
	MaxEpsilonPerQuery Decimal    `json:"max_epsilon_per_query,omitempty" doc:"Likewise; 0: none"`
	Expires            *time.Time `json:"expires,omitempty" doc:"Likewise"`
}

// BudgetRequestList is a page of requests, newest first.
type BudgetRequestList struct {
	Items []BudgetRequest `json:"items"`
	Next  string          `json:"next,omitempty" doc:"Cursor of the next page; absent on the last"`
}
