package office

import (
	"fmt"

	"github.com/discreet-analytics/discreet/dp"
)

func refuse(code dp.Code, format string, values ...any) error {
	return &dp.Error{Code: code, Message: fmt.Sprintf(format, values...)}
}

func invalid(format string, values ...any) error {
	return refuse(dp.CodeInvalidInput, format, values...)
}

func notFound(what string) error {
	return refuse(dp.CodeNotFound, "there is no such %s: check its name, or create it first", what)
}
