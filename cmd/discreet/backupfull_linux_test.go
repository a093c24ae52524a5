package main

import (
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
)

// A disk that fills up while a backup is written costs the backup, and nothing else.
func TestFullDiskOfBackupsFailsTheBackupAlone(t *testing.T) {
	if raceEnabled {
		t.Skip("the processes of this test share nothing that the race detector could watch")
	}
	if dir := os.Getenv(ownMounts); dir != "" {
		if err := syscall.Mount("", "/", "", syscall.MS_REC|syscall.MS_PRIVATE, ""); err != nil {
			t.Fatal(err)
		}
		if err := syscall.Mount("discreet", dir, "tmpfs", 0, "size=2m"); err != nil {
			t.Fatal(err)
		}
		fillBackups(t, dir)
		return
	}
	again := exec.Command(os.Args[0], "-test.run=^TestFullDiskOfBackupsFailsTheBackupAlone$", "-test.v")
	again.Env = append(os.Environ(), ownMounts+"="+t.TempDir())
	again.SysProcAttr = &syscall.SysProcAttr{Cloneflags: syscall.CLONE_NEWNS}
	output, err := again.CombinedOutput()
	if errors.Is(err, syscall.EPERM) || strings.Contains(string(output), syscall.EPERM.Error()) {
		missing(t, "only root may mount a file system")
	}
	if err != nil {
		t.Fatalf("%v\n%s", err, output)
	}
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
