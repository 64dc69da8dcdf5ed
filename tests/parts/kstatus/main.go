// Reads Kubernetes objects as a JSON list on standard input, and prints the status that the kstatus
// library computes of each, one a line: Current, InProgress, Failed, Terminating or Unknown.
package main

import (
	"encoding/json"
	"fmt"
	"os"

	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"sigs.k8s.io/cli-utils/pkg/kstatus/status"
)

func main() {
	// NB: the type's own decoder, because the library insists on whole numbers being int64.
	var objects []unstructured.Unstructured
	if err := json.NewDecoder(os.Stdin).Decode(&objects); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	for i := range objects {
		result, err := status.Compute(&objects[i])
		if err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
		fmt.Println(result.Status)
	}
}
