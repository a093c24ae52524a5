// Package dp holds the words of differentially private analytics as Discreet uses them, as types.
//
//	dataset        rows about customers, with a policy; of kind engagement, transactions or custom
//	block          a calendar month, quarter or year of event time, or all of it
//	privacy unit   what is protected: all rows of one customer within one block
//	partition      one group of the answer, named by its key; public (declared domain) or private (must pass selection)
//	bounds         contribution bounds: MaxPartitions (L0), MaxRows per partition (Linf), Lower and Upper
//	mechanism      Laplace or Gaussian noise, or partition selection
//	loss           what a release costs: epsilon and delta in basic composition; rho and delta in approximate zCDP
//	budget         a ceiling on loss. Cap: of a dataset, over all consumers. Allotment: of one consumer on one dataset
//	account        budget and spent loss of one (dataset, block) or one (consumer, dataset, block)
//	charge         one durable ledger entry: who, what, which accounts, how much
//	plan           what a query will cost and how exact it will be; a pure function of query, policy and held releases
//	release        a noised answer, stored for ever, free to read again for whoever holds it
//	consumer       a person, team or program with keys, a role, an organisation, purposes and allotments
//	audit log      every entry of the ledger in order, provably; events are what it tells of besides what was written
//	checkpoint     the size of the log and the root of the tree over its entries, signed
//	request        a consumer's wish for an allotment, with a reason; an officer grants or denies it, once
//
// The package owns these words and nothing else: it never computes a price, a hash or a noise, and it
// imports nothing of Discreet. What follows from the words lives in dp/rows, dp/accounting, dp/mechanism,
// dp/plan, dp/bounding and dp/answer, which import each other in that order only.
package dp
