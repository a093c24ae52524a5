package client

import (
	"context"
	"errors"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
)

func TestAddressesAndKeysThatCannotBeAreRefused(t *testing.T) {
	for _, base := range []string{"", "127.0.0.1:8080", "ftp://host", "http://", "http://host:x", "\x00"} {
		if _, err := New(base, "dk_1", nil); err == nil {
			t.Errorf("%q is taken for an address", base)
		}
	}
	if _, err := New("http://host", "dk_1\nX-Evil: 1", nil); err == nil {
		t.Error("a key with a line break was taken")
	}
}

func serve(t *testing.T, h http.HandlerFunc) *Client {
	t.Helper()
	s := httptest.NewServer(h)
	t.Cleanup(s.Close)
	c, err := New(s.URL+"/behind/a/proxy/", "dk_1", nil)
	if err != nil {
		t.Fatal(err)
	}
	return c
}

func TestNamesStayInTheirSegmentOfThePath(t *testing.T) {
	var path, key string
	c := serve(t, func(w http.ResponseWriter, r *http.Request) {
		path, key = r.URL.EscapedPath(), r.Header.Get("Authorization")
		_, _ = io.WriteString(w, "{}")
	})
	if _, err := c.Dataset(context.Background(), "a/../b?c#d"); err != nil || path != "/behind/a/proxy/v1/datasets/a%2F..%2Fb%3Fc%23d" || key != "Bearer dk_1" {
		t.Errorf("%v, %s", err, path)
	}
	for _, name := range []string{"", ".", ".."} {
		if _, err := c.Dataset(context.Background(), name); err == nil {
			t.Errorf("the name %q led to %s", name, path)
		}
	}
}

func TestAnswersThatAreNoProblemDocumentsAreProblemsAllTheSame(t *testing.T) {
	c := serve(t, func(w http.ResponseWriter, r *http.Request) {
		w.WriteHeader(http.StatusBadGateway)
		_, _ = io.WriteString(w, "<html>no upstream</html>")
	})
	_, err := c.Me(context.Background())
	var p *Problem
	if !errors.As(err, &p) || p.Status != 502 || p.Code != "http-502" || !strings.Contains(err.Error(), "502") {
		t.Errorf("got %v", err)
	}
}

func TestEmptyUploadIsAnnouncedAsEmpty(t *testing.T) {
	var length int64
	c := serve(t, func(w http.ResponseWriter, r *http.Request) {
		length = r.ContentLength
		_, _ = io.WriteString(w, "{}")
	})
	if _, err := c.Load(context.Background(), "visits", Upload{Body: strings.NewReader(""), Length: 0, Format: "csv"}); err != nil || length != 0 {
		t.Errorf("%v, a length of %d", err, length)
	}
}

func TestKeyDoesNotFollowARedirect(t *testing.T) {
	reached := false
	elsewhere := httptest.NewServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) { reached = true }))
	defer elsewhere.Close()
	c := serve(t, func(w http.ResponseWriter, r *http.Request) { http.Redirect(w, r, elsewhere.URL, http.StatusFound) })
	var p *Problem
	if _, err := c.Me(context.Background()); !errors.As(err, &p) || p.Status != http.StatusFound || reached {
		t.Errorf("got %v, reached %v", err, reached)
	}
}

func TestContextEndsACall(t *testing.T) {
	c := serve(t, func(w http.ResponseWriter, r *http.Request) { <-r.Context().Done() })
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	if _, err := c.Me(ctx); !errors.Is(err, context.Canceled) {
		t.Errorf("got %v", err)
	}
}

func TestUnknownFormatsAreNotSent(t *testing.T) {
	c := serve(t, func(http.ResponseWriter, *http.Request) { t.Error("sent") })
	if _, err := c.Load(context.Background(), "d", Upload{Body: strings.NewReader("x"), Length: 1, Format: "xlsx"}); err == nil {
		t.Error("no error")
	}
	if _, err := c.Erase(context.Background(), "d", Units{Body: strings.NewReader("x"), Length: 1, Format: "parquet"}, false); err == nil {
		t.Error("no error")
	}
}
