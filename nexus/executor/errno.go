package executor

// errno is an error code of WASI preview 1 (witx, typename errno).
type errno uint16

const (
	errnoSuccess    errno = 0
	errnoBadf       errno = 8
	errnoExist      errno = 20
	errnoFault      errno = 21
	errnoIlseq      errno = 25
	errnoInval      errno = 28
	errnoIO         errno = 29
	errnoIsdir      errno = 31
	errnoMfile      errno = 33
	errnoNametoo    errno = 37
	errnoNoent      errno = 44
	errnoNomem      errno = 48
	errnoNotdir     errno = 54
	errnoNotempty   errno = 55
	errnoNotsock    errno = 57
	errnoNotsup     errno = 58
	errnoOverflow   errno = 61
	errnoRofs       errno = 69
	errnoSpipe      errno = 70
	errnoXdev       errno = 75
	errnoNotcapable errno = 76
)
