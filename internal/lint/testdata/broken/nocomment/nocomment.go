package nocomment
