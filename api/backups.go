package api

import (
	"context"
	"net/http"

	"github.com/danielgtaylor/huma/v2"
	"github.com/discreet-analytics/discreet/api/wire"
	"github.com/discreet-analytics/discreet/dp"
)

type backUpInput struct {
	IdempotencyKey string `header:"Idempotency-Key" maxLength:"200" pattern:"^[!-~]*$" doc:"The same call made again under this key makes one backup"`
}

type backupOutput struct {
	Body wire.Backup
}

type backupsInput struct {
	PageParams
}

type backupsOutput struct {
	Body wire.BackupList
}

func (v *Server) registerBackups() {
	register(v, huma.Operation{
		OperationID: "back-up", Method: http.MethodPost, Path: "/v1/backups", Tags: []string{"Health"}, DefaultStatus: http.StatusAccepted,
		Summary: "Make a backup",
		Description: "Begins a backup of ledger, secrets and rows as they stand at one moment, in the server's directory of backups, while everything goes on. One is made at a time. " +
			"It is never sent: it holds rows.",
		Errors: []int{409},
	}, v.backUp)
	register(v, huma.Operation{
		OperationID: "list-backups", Method: http.MethodGet, Path: "/v1/backups", Tags: []string{"Health"},
		Summary: "List the backups", Description: "Newest first: those in the server's directory of backups, the one that is being made, and those that failed since the server started.",
	}, v.listBackups)
}

func (v *Server) backUp(ctx context.Context, in *backUpInput) (*backupOutput, error) {
	b, err := v.services.Backups.Begin(ctx, callerOf(ctx).Name, in.IdempotencyKey)
	if err != nil {
		return nil, err
	}
	return &backupOutput{Body: backupOf(b, callerOf(ctx))}, nil
}

func (v *Server) listBackups(ctx context.Context, in *backupsInput) (*backupsOutput, error) {
	all, err := v.services.Backups.Backups(ctx)
	if err != nil {
		return nil, err
	}
	out := &backupsOutput{Body: wire.BackupList{Items: []wire.Backup{}}}
	for _, b := range all {
		if in.Cursor != "" && b.ID >= in.Cursor { // newest first, and the cursor is the last of the page before
			continue
		}
		if len(out.Body.Items) == in.Limit {
			out.Body.Next = out.Body.Items[in.Limit-1].ID
			break
		}
		out.Body.Items = append(out.Body.Items, backupOf(b, callerOf(ctx)))
	}
	return out, nil
}

// backupOf tells the length of a backup only to whom loads the rows: it follows from how many there are.
func backupOf(b Backup, to caller) wire.Backup {
	w := wire.Backup{ID: b.ID, State: b.State, By: b.By, Begun: b.Begun.UTC(), Ended: timeOf(b.Ended), Files: b.Files, SHA256: b.SHA256, Encrypted: b.Encrypted, Error: b.Error}
	if to.Role == dp.Custodian {
		w.Bytes = b.Bytes
	}
	if b.Length > 0 {
		w.Ledger = &wire.Mark{ID: b.Ledger, Length: b.Length, Head: b.Head}
	}
	if w.Files == nil {
		w.Files = []string{}
	}
	return w
}

// NoBackups are the backups of a server that keeps none.
type NoBackups struct{}

// Begin refuses.
func (NoBackups) Begin(context.Context, string, string) (Backup, error) {
	return Backup{}, errNoBackups()
}

// Backups lists none.
func (NoBackups) Backups(context.Context) ([]Backup, error) { return nil, errNoBackups() }

func errNoBackups() error {
	return &dp.Error{Code: dp.CodeNotFound, Message: "This server keeps no backups: it is started with --backups DIR for that."}
}
