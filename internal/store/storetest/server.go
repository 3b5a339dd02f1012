package storetest

// ServerURL is the address of the PostgreSQL server that Postgres makes its
// databases on, for benchmarks, which are no tests. The server ends with the
// process.
func ServerURL() (string, error) {
	s, err := postgresServer()
	if err != nil {
		return "", err
	}
	return s.url.String(), nil
}
