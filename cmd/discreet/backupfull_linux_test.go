package main

import (
	"path/filepath"
	"strings"
	"testing"
)

// A disk that fills up while a backup is written costs the backup, and nothing else.
func TestFullDiskOfBackupsFailsTheBackupAlone(t *testing.T) {
	inOwnMounts(t, "2m", fillBackups)
}

func fillBackups(t *testing.T, dir string) {
	recipient, _ := identity(t)
	p := newProcess(t, t.TempDir(), "--backups", dir, "--backup-recipient", recipient, "--keep-free", "1MiB", "--reserve", "16MiB")
	h := &harness{t: t, url: "http://" + p.address, officer: keyIn(p.printed)}
	team := p.openShop()
	custodian := h.hire("keeper", "custodian")
	h.must(custodian, "load", "shop", h.file("many.csv", manyRows(100_000)), "--from", "2026-01-01", "--to", "2026-01-31", "--name", "many")
	for range 2 {
		r := h.run(custodian, "backup", "--wait")
		if r.code != exitFailed || !strings.Contains(r.stderr, "no space left") {
			t.Fatalf("%+v", r)
		}
		h.must(team, "query", "shop", "customers", "--from", "2026-01-01", "--to", "2026-01-31", "--purpose", "product-analytics", "--epsilon", "0.01", "--fresh")
	}
	if files, err := filepath.Glob(filepath.Join(dir, "backup-*")); err != nil || len(files) > 0 {
		t.Errorf("left are %v, %v", files, err)
	}
	// Who is to be erased is listed before it is acknowledged; there is room for that again.
	h.must(custodian, "erase", "shop", "customer-1", "--now", "--wait")
	if err := p.stop(); err != nil {
		t.Errorf("the server did not end cleanly: %v\n%s", err, p.lastWords())
	}
}
