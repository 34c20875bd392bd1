// Runs statements through clickhouse-go, the driver of Grafana's ClickHouse plugin, over HTTP.
//
// Lines of {"name", "sql"} on standard input become lines of {"name", "columns", "rows", "error"}.
package main

import (
	"bufio"
	"context"
	"database/sql"
	"encoding/json"
	"fmt"
	"os"
	"reflect"
	"time"

	"github.com/ClickHouse/clickhouse-go/v2"
)

type question struct {
	Name string `json:"name"`
	SQL  string `json:"sql"`
}

type column struct {
	Name string `json:"name"`
	Type string `json:"type"`
}

type answer struct {
	Name    string   `json:"name"`
	Columns []column `json:"columns"`
	Rows    int      `json:"rows"`
	First   []string `json:"first"`
	Error   string   `json:"error,omitempty"`
}

func main() {
	db := clickhouse.OpenDB(&clickhouse.Options{
		Addr:     []string{os.Args[1]},
		Protocol: clickhouse.HTTP,
		Auth: clickhouse.Auth{
			Database: os.Args[2], Username: os.Args[3], Password: os.Getenv("CLICKHOUSE_PASSWORD"),
		},
		DialTimeout: 10 * time.Second,
		ReadTimeout: 60 * time.Second,
		// What the plugin sends with every query.
		Settings:    clickhouse.Settings{"max_execution_time": 60},
		Compression: &clickhouse.Compression{Method: clickhouse.CompressionGZIP},
	})
	defer db.Close()
	in, out := bufio.NewScanner(os.Stdin), json.NewEncoder(os.Stdout)
	in.Buffer(nil, 1<<24)
	for in.Scan() {
		var asked question
		if err := json.Unmarshal(in.Bytes(), &asked); err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(2)
		}
		found := answer{Name: asked.Name, Columns: []column{}}
		ctx, cancel := context.WithTimeout(context.Background(), 60*time.Second)
		rows, err := db.QueryContext(ctx, asked.SQL)
		if err == nil {
			err = read(rows, &found)
		}
		cancel()
		if err != nil {
			found.Error = err.Error()
		}
		if err := out.Encode(found); err != nil {
			os.Exit(2)
		}
	}
}

// read takes every row into the Go types that the driver itself names, as the plugin does.
func read(rows *sql.Rows, found *answer) error {
	defer rows.Close()
	types, err := rows.ColumnTypes()
	if err != nil {
		return err
	}
	for _, t := range types {
		found.Columns = append(found.Columns, column{t.Name(), t.DatabaseTypeName()})
	}
	for rows.Next() {
		values := make([]any, len(types))
		for i, t := range types {
			values[i] = reflect.New(t.ScanType()).Interface()
		}
		if err := rows.Scan(values...); err != nil {
			return err
		}
		if found.Rows == 0 {
			for _, v := range values {
				found.First = append(found.First, fmt.Sprint(reflect.ValueOf(v).Elem().Interface()))
			}
		}
		found.Rows++
	}
	return rows.Err()
}
