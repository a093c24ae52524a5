package main

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"time"

	"github.com/discreet-analytics/discreet/dp/office"
	"github.com/valyala/fasthttp"
)

const address = "127.0.0.1:18475"

// measureHTTP asks through POST /v1/queries of the built command, beside the same questions in process.
func measureHTTP(ctx context.Context, s settings, r *report) error {
	l, err := open(ctx, s, s.rows, s.customers)
	if err != nil {
		return err
	}
	if err := l.close(); err != nil {
		return err
	}
	dir, remove, err := l.copyStore()
	if err != nil {
		return err
	}
	defer remove()
	inside, key, err := askInside(ctx, s, dir)
	if err != nil {
		return err
	}
	served, err := serve(ctx, dir, filepath.Join(l.dir, "server.log"))
	if err != nil {
		return err
	}
	defer served.close()
	var rows [][]string
	for i, q := range httpQuestions() {
		for _, clients := range []int{1, 16} {
			note("%s, %d at once", q.Name, clients)
			m, err := drive(ctx, clients, s.each, nil, func(context.Context) error { return served.ask(key, q) })
			if err != nil {
				return fmt.Errorf("%s: %w", q.Name, err)
			}
			in := inside[i][clients]
			rows = append(rows, []string{q.Name, fmt.Sprint(clients), fmt.Sprintf("%.1f", m.perSecond), short(m.p50), short(m.p99), fmt.Sprintf("%.1f", in.perSecond), short(in.p50), short(in.p99), ratio(in.perSecond, m.perSecond)})
		}
	}
	r.table(fmt.Sprintf("POST /v1/queries beside the same in process, %s rows", millions(l.rows)),
		[]string{"question, fresh", "at once", "answers/s by HTTP", "p50", "p99", "answers/s in process", "p50", "p99", "in process over HTTP"}, rows)
	r.say("Both plan, charge durably, scan, add noise and publish. Client and server share the machine.")
	return nil
}

func httpQuestions() []question { return questions()[:2] }

// askInside measures the walk in process, and issues a key for asking from outside.
func askInside(ctx context.Context, s settings, dir string) (measured []map[int]calls, key string, err error) {
	ours, err := openStore(ctx, dir)
	if err != nil {
		return nil, "", err
	}
	defer ours.close()
	consumer, err := ours.consumer(ctx)
	if err != nil {
		return nil, "", err
	}
	service := ours.service()
	for _, q := range httpQuestions() {
		ask := func(ctx context.Context) error {
			_, err := service.Ask(ctx, consumer, q.query(), "")
			return err
		}
		if err := ask(ctx); err != nil {
			return nil, "", err
		}
		by := map[int]calls{}
		for _, clients := range []int{1, 16} {
			if by[clients], err = drive(ctx, clients, s.each, nil, ask); err != nil {
				return nil, "", fmt.Errorf("%s in process: %w", q.Name, err)
			}
		}
		measured = append(measured, by)
	}
	key, _, err = ours.office.IssueKey(ctx, actor, office.NewKey{Consumer: asker}, "benchmark")
	return measured, key, err
}

// server is the command, serving a directory in a process of its own.
type server struct {
	process *exec.Cmd
	client  *fasthttp.Client
}

func serve(ctx context.Context, dir, log string) (*server, error) {
	binary := filepath.Join(filepath.Dir(dir), "command")
	build := exec.CommandContext(ctx, "go", "build", "-o", binary, "./cmd/discreet")
	build.Dir, build.Stderr = "..", os.Stderr // by the main module's own versions
	if err := build.Run(); err != nil {
		return nil, fmt.Errorf("building the command: %w", err)
	}
	s := &server{
		process: exec.CommandContext(ctx, binary, "serve", "--data", dir, "--witness", dir+".witness", "--listen", address),
		client:  &fasthttp.Client{MaxConnsPerHost: 64},
	}
	// It logs every request.
	file, err := os.Create(log)
	if err != nil {
		return nil, err
	}
	defer file.Close() // the process has its own
	s.process.Stderr = file
	if err := s.process.Start(); err != nil {
		return nil, err
	}
	for range 600 {
		if code, _, err := s.client.Get(nil, "http://"+address+"/readyz"); err == nil && code == fasthttp.StatusOK {
			return s, nil
		}
		time.Sleep(100 * time.Millisecond)
	}
	s.close()
	return nil, fmt.Errorf("the server did not get ready in a minute: see %s", log)
}

func (s *server) close() {
	_ = s.process.Process.Signal(os.Interrupt)
	_ = s.process.Wait()
}

func (s *server) ask(key string, q question) error {
	asked := q.query()
	body := map[string]any{
		"dataset": asked.Dataset, "metrics": asked.Metrics, "by": asked.By, "from": asked.From, "to": asked.To, "purpose": asked.Purpose,
		"max_partitions": asked.MaxPartitions, "epsilon": json.Number(asked.Epsilon), "delta": json.Number(asked.Delta), "fresh": true,
	}
	if q.Country != "" {
		body["where"] = []map[string]any{{"field": "country", "eq": q.Country}}
	}
	text, err := json.Marshal(body)
	if err != nil {
		return err
	}
	request, response := fasthttp.AcquireRequest(), fasthttp.AcquireResponse()
	defer fasthttp.ReleaseRequest(request)
	defer fasthttp.ReleaseResponse(response)
	request.Header.SetMethod(fasthttp.MethodPost)
	request.SetRequestURI("http://" + address + "/v1/queries")
	request.Header.Set("Authorization", "Bearer "+key)
	request.Header.SetContentType("application/json")
	request.SetBody(text)
	if err := s.client.Do(request, response); err != nil {
		return err
	}
	if response.StatusCode() != fasthttp.StatusOK {
		return fmt.Errorf("status %d: %s", response.StatusCode(), bytes.TrimSpace(response.Body()))
	}
	return nil
}
