package identity

import "strings"

// Operation is a row of the operation table: all that the gate needs to know.
type Operation struct {
	Name     string // of the API, and in CloudTrail
	Source   string // CloudTrail's eventSource
	Action   string // in policies, and in the patterns of an operator's actions
	Code     string // in the audit log
	PCI      string // PCI DSS v4.0.1 requirement 10.2.1.x that asks for the entry of a success
	ReadOnly bool   // as CloudTrail's readOnly
}

// PCI DSS v4.0.1 requirements that ask for entries.
const (
	pciAdmin  = "10.2.1.2" // administrative actions
	pciDenied = "10.2.1.4" // invalid logical access attempts
	pciIdent  = "10.2.1.5" // changes of credentials and privileges
)

func op(name string) *Operation {
	return &Operation{Name: name, Source: "iam.amazonaws.com", Action: "iam:" + name, Code: "identity." + snake(name), PCI: pciIdent}
}

func read(name string) *Operation {
	o := op(name)
	o.PCI, o.ReadOnly = pciAdmin, true
	return o
}

// sts is an operation of STS. CloudTrail calls all of them read only: they change no
// resource of the account.
func sts(name, pci string) *Operation {
	return &Operation{Name: name, Source: "sts.amazonaws.com", Action: "sts:" + name, Code: "sts." + snake(name), PCI: pci, ReadOnly: true}
}

// The operations. Their names are AWS's where AWS has the operation.
var (
	OpBootstrap     = op("Bootstrap")
	OpCreateAccount = op("CreateAccount")
	OpListAccounts  = read("ListAccounts")

	OpCreateUser = op("CreateUser")
	OpGetUser    = read("GetUser")
	OpListUsers  = read("ListUsers")
	OpDeleteUser = op("DeleteUser")
	OpTagUser    = op("TagUser")
	OpUntagUser  = op("UntagUser")

	OpCreateGroup         = op("CreateGroup")
	OpGetGroup            = read("GetGroup")
	OpListGroups          = read("ListGroups")
	OpDeleteGroup         = op("DeleteGroup")
	OpAddUserToGroup      = op("AddUserToGroup")
	OpRemoveUserFromGroup = op("RemoveUserFromGroup")

	OpCreateRole             = op("CreateRole")
	OpGetRole                = read("GetRole")
	OpListRoles              = read("ListRoles")
	OpUpdateRole             = op("UpdateRole")
	OpUpdateAssumeRolePolicy = op("UpdateAssumeRolePolicy")
	OpDeleteRole             = op("DeleteRole")
	OpTagRole                = op("TagRole")
	OpUntagRole              = op("UntagRole")

	OpPutUserPolicy     = op("PutUserPolicy")
	OpGetUserPolicy     = read("GetUserPolicy")
	OpDeleteUserPolicy  = op("DeleteUserPolicy")
	OpPutRolePolicy     = op("PutRolePolicy")
	OpGetRolePolicy     = read("GetRolePolicy")
	OpDeleteRolePolicy  = op("DeleteRolePolicy")
	OpPutGroupPolicy    = op("PutGroupPolicy")
	OpGetGroupPolicy    = read("GetGroupPolicy")
	OpDeleteGroupPolicy = op("DeleteGroupPolicy")

	OpPutUserBoundary    = op("PutUserPermissionsBoundary")
	OpDeleteUserBoundary = op("DeleteUserPermissionsBoundary")
	OpPutRoleBoundary    = op("PutRolePermissionsBoundary")
	OpDeleteRoleBoundary = op("DeleteRolePermissionsBoundary")

	OpCreateAccessKey = op("CreateAccessKey")
	OpListAccessKeys  = read("ListAccessKeys")
	OpUpdateAccessKey = op("UpdateAccessKey")
	OpDeleteAccessKey = op("DeleteAccessKey")
	OpUnlockAccessKey = op("UnlockAccessKey")
	OpRevokeSessions  = op("RevokeSessions")

	OpEnableMFADevice     = op("EnableMFADevice")
	OpListMFADevices      = read("ListMFADevices")
	OpDeactivateMFADevice = op("DeactivateMFADevice")

	OpGetCallerIdentity = sts("GetCallerIdentity", "")
	OpAssumeRole        = sts("AssumeRole", pciIdent)
	OpGetSessionToken   = sts("GetSessionToken", pciIdent)

	// OpLockout is what the service does by itself when an access key or a second
	// factor was tried too often.
	OpLockout = op("Lockout")
	// OpUnknown stands for a request whose operation could not be read.
	OpUnknown = sts("Unknown", "")
)

// Operations is the table.
func Operations() []*Operation {
	return []*Operation{
		OpBootstrap, OpCreateAccount, OpListAccounts,
		OpCreateUser, OpGetUser, OpListUsers, OpDeleteUser, OpTagUser, OpUntagUser,
		OpCreateGroup, OpGetGroup, OpListGroups, OpDeleteGroup, OpAddUserToGroup, OpRemoveUserFromGroup,
		OpCreateRole, OpGetRole, OpListRoles, OpUpdateRole, OpUpdateAssumeRolePolicy, OpDeleteRole, OpTagRole, OpUntagRole,
		OpPutUserPolicy, OpGetUserPolicy, OpDeleteUserPolicy, OpPutRolePolicy, OpGetRolePolicy, OpDeleteRolePolicy,
		OpPutGroupPolicy, OpGetGroupPolicy, OpDeleteGroupPolicy,
		OpPutUserBoundary, OpDeleteUserBoundary, OpPutRoleBoundary, OpDeleteRoleBoundary,
		OpCreateAccessKey, OpListAccessKeys, OpUpdateAccessKey, OpDeleteAccessKey, OpUnlockAccessKey, OpRevokeSessions,
		OpEnableMFADevice, OpListMFADevices, OpDeactivateMFADevice,
		OpGetCallerIdentity, OpAssumeRole, OpGetSessionToken, OpLockout, OpUnknown,
	}
}

// snake is PutUserPolicy as put_user_policy, and EnableMFADevice as enable_mfa_device.
func snake(name string) string {
	var b strings.Builder
	upper := func(i int) bool { return i < len(name) && name[i] >= 'A' && name[i] <= 'Z' }
	for i := range len(name) {
		if upper(i) && i > 0 && (!upper(i-1) || i+1 < len(name) && !upper(i+1)) {
			b.WriteByte('_')
		}
		b.WriteByte(name[i] | 0x20) // to lower case: letters only
	}
	return b.String()
}
