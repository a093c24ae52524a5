package wire

// Problem is an error as RFC 9457 writes it. It never holds an input's value.
type Problem struct {
	Type     string          `json:"type" doc:"Ends in the name of the kind of error" example:"/docs#budget-exhausted"`
	Title    string          `json:"title" doc:"The kind of error in words" example:"Budget exhausted"`
	Status   int             `json:"status" example:"403"`
	Detail   string          `json:"detail,omitempty" doc:"What happened and what to do"`
	Instance string          `json:"instance,omitempty" doc:"Names this occurrence in the server's log" example:"urn:discreet:request:5f0c2a9e1b7d4c36"`
	Errors   []ProblemDetail `json:"errors,omitzero" doc:"Where in the input"`

	Required     *Loss              `json:"required,omitempty" doc:"budget-exhausted: the price on each block"`
	Left         *Left              `json:"left,omitempty" doc:"budget-exhausted: the account with least room"`
	Alternatives []Alternative      `json:"alternatives,omitzero" doc:"Cheaper variants"`
	Best         map[string]Decimal `json:"best,omitzero" doc:"accuracy-unattainable: the best attainable half-width per metric"`
}

// ProblemDetail is one place in the input and what is wrong with it.
type ProblemDetail struct {
	Location string `json:"location" example:"body.where[0].field"`
	Message  string `json:"message" example:"is not a dimension of this dataset"`
}

// Status is the state of the server.
type Status struct {
	Status string `json:"status" example:"ok"`
}
