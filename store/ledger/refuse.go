package ledger

import (
	"fmt"
	"time"

	"github.com/discreet-analytics/discreet/dp"
)

func refuse(code dp.Code, format string, values ...any) error {
	return &dp.Error{Code: code, Message: fmt.Sprintf(format, values...)}
}

func errNoDataset() error {
	return refuse(dp.CodeNotFound, "there is no such dataset: list the datasets that you may see")
}

func errNoConsumer() error {
	return refuse(dp.CodeNotFound, "there is no such consumer: list the consumers, or create it first")
}

func errNoRelease() error {
	return refuse(dp.CodeNotFound, "there is no such release among those that you hold: list your releases")
}

func errTooLarge() error {
	return refuse(dp.CodeTooLarge, "this is more than the ledger keeps in one entry: send less at once")
}

func errClosed() error {
	return &dp.Error{Code: dp.CodeUnavailable, RetryAfter: time.Second,
		Message: "the ledger is closing: ask again once the service is back"}
}

func errBusy() error {
	return &dp.Error{Code: dp.CodeUnavailable, RetryAfter: time.Second,
		Message: "more is being written to the ledger than its disk takes, and nothing of this was written: ask again in a moment"}
}

func errBroken() error {
	return &dp.Error{Code: dp.CodeUnavailable, RetryAfter: time.Minute,
		Message: "the ledger could not write to its disk and stopped, so that nothing is promised that is not kept: free space or replace the disk, then restart the service"}
}
