package broker

import "golang.org/x/sys/unix"

func credentials(fd int) (peer, error) {
	cred, err := unix.GetsockoptUcred(fd, unix.SOL_SOCKET, unix.SO_PEERCRED)
	if err != nil {
		return peer{}, err
	}
	return peer{known: true, uid: int(cred.Uid), pid: int(cred.Pid)}, nil
}
