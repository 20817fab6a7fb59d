;; A contract that does one thing often, as a message says: what gas is measured of.
;;
;; A message that begins with { is the answer. Of any other the first byte says what is
;; done, the next four how often, lowest first, and the rest is what a query, or an
;; address, is.
(module
  (import "env" "db_read" (func $db_read (param i32) (result i32)))
  (import "env" "db_write" (func $db_write (param i32 i32)))
  (import "env" "db_remove" (func $db_remove (param i32)))
  (import "env" "db_scan" (func $db_scan (param i32 i32 i32) (result i32)))
  (import "env" "db_next" (func $db_next (param i32) (result i32)))
  (import "env" "query_chain" (func $query_chain (param i32) (result i32)))
  (import "env" "addr_validate" (func $addr_validate (param i32) (result i32)))
  (memory (export "memory") 2)
  ;; Regions: of the key at 16, the value at 32, the rest of a message at 48, what is
  ;; answered to a message at 80, and to a query at 96.
  (data (i32.const 16) "\00\04\00\00" "\04\00\00\00" "\04\00\00\00")
  (data (i32.const 32) "\00\08\00\00" "\64\00\00\00" "\64\00\00\00")
  (data (i32.const 80) "\00\01\00\00" "\32\00\00\00" "\32\00\00\00")
  (data (i32.const 96) "\80\01\00\00" "\0d\00\00\00" "\0d\00\00\00")
  (data (i32.const 256) "{\22ok\22:{\22messages\22:[],\22attributes\22:[],\22events\22:[]}}")
  (data (i32.const 384) "{\22ok\22:\22e30=\22}")
  (data (i32.const 2048) "value")
  (global $next (mut i32) (i32.const 4096))
  (func (export "interface_version_8"))
  (func (export "deallocate") (param i32))
  (func (export "allocate") (param $n i32) (result i32) (local $r i32) (local $lack i32)
    (local.set $r (global.get $next))
    (global.set $next (i32.add (local.get $r) (i32.add (local.get $n) (i32.const 12))))
    (local.set $lack (i32.sub (global.get $next) (i32.shl (memory.size) (i32.const 16))))
    (if (i32.gt_s (local.get $lack) (i32.const 0))
      (then (drop (memory.grow (i32.add (i32.shr_u (local.get $lack) (i32.const 16)) (i32.const 1))))))
    (call $region (local.get $r) (i32.add (local.get $r) (i32.const 12)) (local.get $n))
    (i32.store offset=8 (local.get $r) (i32.const 0))
    (local.get $r))
  (func $region (param $r i32) (param $at i32) (param $length i32)
    (i32.store (local.get $r) (local.get $at))
    (i32.store offset=4 (local.get $r) (local.get $length))
    (i32.store offset=8 (local.get $r) (local.get $length)))
  (func (export "instantiate") (param i32 i32 i32) (result i32) (i32.const 80))
  (func (export "migrate") (param i32 i32) (result i32) (i32.const 80))
  (func (export "reply") (param i32 i32) (result i32) (i32.const 80))
  (func (export "query") (param i32 i32) (result i32) (i32.const 96))
  (func (export "execute") (param $env i32) (param $info i32) (param $msg i32) (result i32)
    (local $at i32) (local $do i32) (local $i i32) (local $keep i32) (local $walk i32)
    (local.set $at (i32.load (local.get $msg)))
    (local.set $do (i32.load8_u (local.get $at)))
    (if (i32.eq (local.get $do) (i32.const 0x7b)) (then (return (local.get $msg))))
    (local.set $i (i32.load offset=1 align=1 (local.get $at)))
    (call $region (i32.const 48) (i32.add (local.get $at) (i32.const 5)) (i32.sub (i32.load offset=8 (local.get $msg)) (i32.const 5)))
    (local.set $keep (global.get $next))
    (if (i32.eq (local.get $do) (i32.const 0x6e)) ;; n: the next of one walk
      (then (local.set $walk (call $db_scan (i32.const 0) (i32.const 0) (i32.const 1)))))
    (block $done
      (loop $often
        (br_if $done (i32.eqz (local.get $i)))
        (global.set $next (local.get $keep))
        (i32.store (i32.const 1024) (local.get $i))
        (if (i32.eq (local.get $do) (i32.const 0x72)) (then (drop (call $db_read (i32.const 16))))) ;; r
        (if (i32.eq (local.get $do) (i32.const 0x77)) (then (call $db_write (i32.const 16) (i32.const 32)))) ;; w
        (if (i32.eq (local.get $do) (i32.const 0x78)) (then (call $db_remove (i32.const 16)))) ;; x
        (if (i32.eq (local.get $do) (i32.const 0x73)) ;; s: the first of a walk
          (then (drop (call $db_next (call $db_scan (i32.const 0) (i32.const 0) (i32.const 1))))))
        (if (i32.eq (local.get $do) (i32.const 0x62)) ;; b: a walk backwards
          (then (drop (call $db_scan (i32.const 0) (i32.const 0) (i32.const 2)))))
        (if (i32.eq (local.get $do) (i32.const 0x6e)) (then (drop (call $db_next (local.get $walk)))))
        (if (i32.eq (local.get $do) (i32.const 0x71)) (then (drop (call $query_chain (i32.const 48))))) ;; q
        (if (i32.eq (local.get $do) (i32.const 0x76)) (then (drop (call $addr_validate (i32.const 48))))) ;; v
        (if (i32.eq (local.get $do) (i32.const 0x63)) (then (call $compute))) ;; c
        (if (i32.eq (local.get $do) (i32.const 0x6d)) (then (call $use))) ;; m
        (local.set $i (i32.sub (local.get $i) (i32.const 1)))
        (br $often)))
    (i32.const 80))
  ;; A thousand divisions.
  (func $compute (local $n i32) (local $l i64)
    (local.set $n (i32.const 1000))
    (local.set $l (i64.const 7))
    (loop $often
      (local.set $l (i64.add (i64.const 3) (i64.rem_u (i64.const 0x7fffffffffffffff) (local.get $l))))
      (br_if $often (local.tee $n (i32.sub (local.get $n) (i32.const 1))))))
  ;; A page more, and each of the machine's in it used.
  (func $use (local $at i32) (local $n i32)
    (local.set $at (i32.shl (memory.grow (i32.const 1)) (i32.const 16)))
    (local.set $n (i32.const 16))
    (loop $often
      (i32.store (local.get $at) (local.get $n))
      (local.set $at (i32.add (local.get $at) (i32.const 4096)))
      (br_if $often (local.tee $n (i32.sub (local.get $n) (i32.const 1)))))))
