package main

import (
	"log"
	"net/http"
	"os"
	"path/filepath"
	"strings"
)

// What somebody may do: permissions by their names in IAM. Replacing an object takes both create and delete.
type role struct {
	permissions map[string]bool
	// What every request is answered, if not 0.
	status int
	code   string
}

func (r role) may(permissions ...string) bool {
	for _, permission := range permissions {
		if !r.permissions[permission] {
			return false
		}
	}
	return true
}

// The roles of the guide, from the files that operators are given; and two whom every service turns away.
func readRoles(directory string) map[string]role {
	roles := map[string]role{
		"owner": {permissions: map[string]bool{
			"storage.multipartUploads.abort":  true,
			"storage.multipartUploads.create": true,
			"storage.objects.create":          true,
			"storage.objects.delete":          true,
			"storage.objects.get":             true,
			"storage.objects.list":            true,
		}},
		"stranger": {},
		"unknown":  {status: http.StatusUnauthorized, code: "AuthenticationRequired"},
	}
	files, err := filepath.Glob(filepath.Join(directory, "*.yaml"))
	if err != nil || len(files) == 0 {
		log.Fatalf("no roles in %s", directory)
	}
	for _, file := range files {
		text, err := os.ReadFile(file)
		if err != nil {
			log.Fatal(err)
		}
		permissions := map[string]bool{}
		for _, line := range strings.Split(string(text), "\n") {
			if permission, found := strings.CutPrefix(line, "- "); found {
				permissions[permission] = true
			}
		}
		roles[strings.TrimSuffix(filepath.Base(file), ".yaml")] = role{permissions: permissions}
	}
	return roles
}
