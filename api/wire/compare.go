package wire

// Comparison asks how one figure differs from another, or each figure of a release from that of the same key and metric in
// another. The caller holds the releases.
type Comparison struct {
	From       Cell    `json:"from" doc:"What is compared with"`
	To         Cell    `json:"to" doc:"What is compared: up says that it is larger than from"`
	As         string  `json:"as,omitempty" doc:"The difference (to less from) or the ratio (to over from); difference when absent" enum:"difference,ratio" example:"difference"`
	Confidence Decimal `json:"confidence,omitempty" doc:"Of each interval by itself; 0.95 when absent"`
}

// Cell is a figure of a release, or with neither key nor metric all of them.
type Cell struct {
	Release string            `json:"release" doc:"Its id" example:"rel_01k3x8"`
	Key     map[string]string `json:"key,omitempty" doc:"The group, a label for each part of the release's key; absent for all groups, or where there is only one"`
	Metric  string            `json:"metric,omitempty" doc:"The metric; absent for all that both releases have" example:"customers"`
}

// Compared is what became of a comparison.
type Compared struct {
	As         string         `json:"as" enum:"difference,ratio" example:"difference"`
	Confidence Decimal        `json:"confidence" doc:"Of each interval by itself"`
	Cells      []ComparedCell `json:"cells" doc:"In the order of the first release's groups"`
	Missing    int            `json:"missing" doc:"Groups that only one of the releases has" example:"0"`
	Notes      []string       `json:"notes,omitzero" doc:"What else a change can come from"`
}

// ComparedCell is one figure beside another, at the same confidence.
type ComparedCell struct {
	FromKey    map[string]string `json:"from_key"`
	ToKey      map[string]string `json:"to_key"`
	FromMetric string            `json:"from_metric" example:"customers"`
	ToMetric   string            `json:"to_metric" example:"customers"`
	From       Value             `json:"from"`
	To         Value             `json:"to"`
	Change     Change            `json:"change"`
	Verdict    string            `json:"verdict" doc:"Up or down where the whole interval of the change says so; noise explains the rest" enum:"up,down,unclear" example:"up"`
}

// Change is a difference or a ratio. The interval of a ratio to what may be 0 has no ends.
type Change struct {
	Value float64  `json:"value" example:"118"`
	Low   *float64 `json:"low,omitempty" doc:"Lower end of the interval" example:"68"`
	High  *float64 `json:"high,omitempty" doc:"Upper end of the interval" example:"168"`
	SD    *float64 `json:"sd,omitempty" doc:"Standard deviation of the noise, to first order" example:"25.3"`
}
