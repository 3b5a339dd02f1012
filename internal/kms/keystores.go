package kms

// connections are the custom key stores that this node is connected to.
type connections struct{}

func (c *connections) backend(k *Key) (Backend, error) {
	return nil, refuse(CodeInvalidState, k.ARN()+" is unavailable.")
}
