package dp

import _ "embed"

//go:embed PRIVACY.md
var privacyDocument string

// PrivacyDocument is PRIVACY.md: what is guaranteed, under which assumptions, and why.
func PrivacyDocument() string { return privacyDocument }
