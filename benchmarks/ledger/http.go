package main

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"time"

	"github.com/gofiber/fiber/v2"
	"github.com/valyala/fasthttp"
)

// serveBare answers every request with the bytes of a file, with nothing between Fiber and the handler.
func serveBare(path string) error {
	content, err := os.ReadFile(path)
	if err != nil {
		return err
	}
	app := fiber.New(fiber.Config{DisableStartupMessage: true})
	app.Get("/", func(c *fiber.Ctx) error {
		c.Set(fiber.HeaderContentType, fiber.MIMEApplicationJSON)
		return c.Send(content)
	})
	return app.Listen(bareAddress)
}

const (
	bareAddress = "127.0.0.1:18473"
	ourAddress  = "127.0.0.1:18474"
)

// served is a discreet server with its demo's data, in a process of its own.
type served struct {
	process *exec.Cmd
	key     string
}

// serveDemo builds the command and runs its demo.
func serveDemo(ctx context.Context, dir string) (*served, error) {
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return nil, err
	}
	binary := filepath.Join(dir, "discreet")
	build := exec.CommandContext(ctx, "go", "build", "-o", binary, "./cmd/discreet")
	build.Dir, build.Stderr = "..", os.Stderr // by the main module's own versions
	if err := build.Run(); err != nil {
		return nil, fmt.Errorf("building the command: %w", err)
	}
	out, err := os.Create(filepath.Join(dir, "demo.log"))
	if err != nil {
		return nil, err
	}
	s := &served{process: exec.CommandContext(ctx, binary, "demo", "--listen", ourAddress, "--customers", "2000", "--data", filepath.Join(dir, "data"))}
	s.process.Stdout = out
	if err := s.process.Start(); err != nil {
		return nil, err
	}
	product := regexp.MustCompile(`ANALYST=(dk_[A-Za-z0-9_-]+)`)
	for range 600 {
		text, err := os.ReadFile(out.Name())
		if err != nil {
			return nil, err
		}
		if found := product.FindSubmatch(text); found != nil {
			s.key = string(found[1])
			return s, nil
		}
		time.Sleep(100 * time.Millisecond)
	}
	return nil, fmt.Errorf("the demo printed no key: see %s", out.Name())
}

func (s *served) close() {
	_ = s.process.Process.Signal(os.Interrupt)
	_ = s.process.Wait()
}

// measureHTTP measures charges through POST /v1/queries, and repeated reads of a release beside a bare handler.
func measureHTTP(ctx context.Context, dir string, runs int, each time.Duration) error {
	s, err := serveDemo(ctx, dir)
	if err != nil {
		return err
	}
	defer s.close()
	client := &fasthttp.Client{MaxConnsPerHost: 512}
	call := func(method, url, body string) ([]byte, error) {
		request, response := fasthttp.AcquireRequest(), fasthttp.AcquireResponse()
		defer fasthttp.ReleaseRequest(request)
		defer fasthttp.ReleaseResponse(response)
		request.Header.SetMethod(method)
		request.SetRequestURI(url)
		request.Header.Set("Authorization", "Bearer "+s.key)
		if body != "" {
			request.Header.SetContentType("application/json")
			request.SetBodyString(body)
		}
		if err := client.Do(request, response); err != nil {
			return nil, err
		}
		if response.StatusCode() != fasthttp.StatusOK {
			return nil, fmt.Errorf("%s %s: %d %s", method, url, response.StatusCode(), response.Body())
		}
		return bytes.Clone(response.Body()), nil
	}
	query := func(fresh bool) string {
		q := map[string]any{"dataset": "transactions", "metrics": []string{"customers"}, "from": "2026-03-01", "to": "2026-03-31",
			"purpose": "reporting", "epsilon": json.Number("0.000001"), "delta": 0, "fresh": fresh}
		text, err := json.Marshal(q)
		if err != nil {
			panic(err) // a literal
		}
		return string(text)
	}
	base := "http://" + ourAddress

	fmt.Println("\nThrough HTTP, client and server on the same two cores.")
	fmt.Println("\n| what | clients | requests/s | p50 | p99 |")
	fmt.Println("|---|---|---|---|---|")
	for _, clients := range []int{1, 64} {
		m, err := drive(ctx, runs, each, clients, func(context.Context, int) error {
			_, err := call("POST", base+"/v1/queries", query(true))
			return err
		})
		if err != nil {
			return err
		}
		fmt.Printf("| POST /v1/queries, fresh: charge, scan of 2,000 customers' March, noise, publish | %d | %.0f | %s | %s |\n", clients, m.perSecond, short(m.p50), short(m.p99))
	}

	answer, err := call("POST", base+"/v1/queries", query(false))
	if err != nil {
		return err
	}
	var release struct{ ID string }
	if err := json.Unmarshal(answer, &release); err != nil {
		return err
	}
	url := base + "/v1/releases/" + release.ID
	content, err := call("GET", url, "")
	if err != nil {
		return err
	}
	file := filepath.Join(dir, "release.json")
	if err := os.WriteFile(file, content, 0o600); err != nil {
		return err
	}
	self, err := os.Executable()
	if err != nil {
		return err
	}
	bare := exec.CommandContext(ctx, self, "-bare", file)
	if err := bare.Start(); err != nil {
		return err
	}
	defer func() { _ = bare.Process.Kill(); _ = bare.Wait() }()
	bareURL := "http://" + bareAddress + "/"
	for range 50 {
		if _, err = call("GET", bareURL, ""); err == nil {
			break
		}
		time.Sleep(50 * time.Millisecond)
	}
	if err != nil {
		return err
	}
	for _, clients := range []int{1, 64} {
		read := func(url string) (measured, error) {
			return drive(ctx, runs, each, clients, func(context.Context, int) error {
				_, err := call("GET", url, "")
				return err
			})
		}
		ours, err := read(url)
		if err != nil {
			return err
		}
		theirs, err := read(bareURL)
		if err != nil {
			return err
		}
		fmt.Printf("| GET /v1/releases/{id}, %d bytes | %d | %.0f | %s | %s |\n", len(content), clients, ours.perSecond, short(ours.p50), short(ours.p99))
		fmt.Printf("| bare Fiber handler, the same bytes | %d | %.0f | %s | %s |\n", clients, theirs.perSecond, short(theirs.p50), short(theirs.p99))
		fmt.Printf("| ratio | %d | %.2f | | |\n", clients, ours.perSecond/theirs.perSecond)
	}
	return nil
}
