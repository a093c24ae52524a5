package main

import (
	"context"
	"database/sql"
	"fmt"
	"strconv"
	"strings"

	_ "github.com/duckdb/duckdb-go/v2" // the driver of database/sql
)

// duck is a DuckDB database with the rows in the table payments.
type duck struct{ db *sql.DB }

const table = "payments"

// openDuck opens a database file with as many threads as there are cores, DuckDB's default. What is not its default
// serves it: two are open at a time, and each would take 80 % of the memory. Its optimizer turns the ranks of bounded
// SQL into aggregates of the smallest, which is slower for 4 kept partitions of each customer and month, and runs out
// of memory for 31.
func openDuck(path string, readOnly bool) (*duck, error) {
	if readOnly {
		path += "?access_mode=READ_ONLY"
	}
	db, err := sql.Open("duckdb", path)
	if err != nil {
		return nil, fmt.Errorf("opening DuckDB: %w", err)
	}
	kilobytes, err := strconv.ParseInt(strings.TrimSuffix(field("/proc/meminfo", "MemTotal"), " kB"), 10, 64)
	if err != nil {
		return nil, fmt.Errorf("reading the machine's memory, which Linux has: %w", err)
	}
	d := &duck{db}
	err = d.exec(context.Background(), fmt.Sprintf("set global memory_limit = '%d KiB'", kilobytes*2/5), "set global disabled_optimizers = 'top_n_window_elimination'")
	return d, err
}

func (d *duck) close() { _ = d.db.Close() } // of tables that are read only, nothing can be lost

func duckVersion() (version string, err error) {
	d, err := openDuck("", false)
	if err != nil {
		return "", err
	}
	defer d.close()
	return version, d.db.QueryRow("select version()").Scan(&version)
}

// all runs a query and reads every row of its answer.
func (d *duck) all(ctx context.Context, query string) ([][]any, error) {
	answer, err := d.db.QueryContext(ctx, query)
	if err != nil {
		return nil, err
	}
	defer answer.Close()
	columns, err := answer.Columns()
	if err != nil {
		return nil, err
	}
	var rows [][]any
	for answer.Next() {
		row := make([]any, len(columns))
		into := make([]any, len(columns))
		for i := range row {
			into[i] = &row[i]
		}
		if err := answer.Scan(into...); err != nil {
			return nil, err
		}
		rows = append(rows, row)
	}
	return rows, answer.Err()
}

// contestant is a query as one of those that are compared.
func (d *duck) contestant(name, query string) contestant {
	return contestant{name, func(ctx context.Context) error {
		rows, err := d.all(ctx, query)
		if err == nil && len(rows) == 0 {
			err = fmt.Errorf("no rows")
		}
		return err
	}}
}

func (d *duck) exec(ctx context.Context, statements ...string) error {
	for _, s := range statements {
		if _, err := d.db.ExecContext(ctx, s); err != nil {
			return fmt.Errorf("%s: %w", strings.SplitN(s, "(", 2)[0], err)
		}
	}
	return nil
}

// asItIs has the columns of the file, and takes its rows as fast as DuckDB can: what loads are compared with.
const asItIs = `create table ` + table + ` (
  customer_id varchar, booked_at timestamptz, merchant_category varchar, merchant varchar, channel varchar, country varchar, city varchar, amount decimal(9, 2)
)`

// typed has the types that make DuckDB's queries fastest: like Discreet it knows customers by 64 bits, categories,
// channels and countries are enumerations, times are local, and what the policy calls other is mapped beforehand.
var typed = []string{
	`create type category as enum ('grocery', 'dining', 'fuel', 'fashion', 'electronics', 'health', 'entertainment', 'travel', 'other')`,
	`create type channel as enum ('chip', 'contactless', 'online')`,
	`create type country as enum ('DE', 'FR', 'ES', 'IT', 'NL', 'AT', 'PT', 'DK')`,
	`create table ` + table + ` (customer ubigint, booked_at timestamp, category category, merchant varchar, channel channel, country country, city varchar, amount decimal(9, 2))`,
}

// buildDuck makes a database in the order of the file, that of time, and one whose rows are sorted by customer; and
// the rows as Parquet.
func (d *data) buildDuck(ctx context.Context, rebuild bool) error {
	err := built(d.byTime(), d.made, rebuild, func() error {
		return inDuck(d.byTime(), func(db *duck) error {
			return db.exec(ctx, append(typed, fmt.Sprintf(`insert into %s
				select hash(customer_id), booked_at[1:19]::timestamp, case merchant_category when 'pets' then 'other' else merchant_category end::category,
				       merchant, channel::channel, country::country, city, amount::decimal(9, 2)
				from read_csv('%s', header = true, all_varchar = true)`, table, d.csv()), "checkpoint")...)
		})
	})
	if err != nil {
		return err
	}
	return built(d.sorted(), d.made, rebuild, func() error {
		return inDuck(d.sorted(), func(db *duck) error {
			return db.exec(ctx, append(typed, fmt.Sprintf("attach '%s' as source (read_only)", d.byTime()),
				fmt.Sprintf("insert into %s select customer, booked_at, category::varchar::category, merchant, channel::varchar::channel, country::varchar::country, city, amount from source.%s order by customer, booked_at", table, table),
				"detach source", "checkpoint")...)
		})
	})
}

// buildParquet writes the file's rows as zstd Parquet.
func (d *data) buildParquet(ctx context.Context, rebuild bool) error {
	return built(d.parquet(), d.made, rebuild, func() error {
		return inDuck("", func(db *duck) error {
			return db.exec(ctx, fmt.Sprintf(`copy (select * from read_csv('%s', header = true, columns = {
				'customer_id': 'varchar', 'booked_at': 'timestamptz', 'merchant_category': 'varchar', 'merchant': 'varchar', 'channel': 'varchar',
				'country': 'varchar', 'city': 'varchar', 'amount': 'decimal(9, 2)'})) to '%s' (format parquet, compression zstd)`, d.csv(), d.parquet()))
		})
	})
}

// inDuck does something with a database that may be written.
func inDuck(path string, do func(*duck) error) error {
	db, err := openDuck(path, false)
	if err != nil {
		return err
	}
	if err := do(db); err != nil {
		db.close()
		return err
	}
	return db.db.Close()
}
