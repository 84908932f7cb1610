import { randomFillSync } from 'node:crypto'
import { v7 } from 'uuid'

/** Random bytes are made for so many ids at a time: asking for each is a twentieth of what a request costs. */
const pool = Buffer.alloc(256 * 16)
let used = pool.length
let milliseconds = 0
let sequence = 0

/** A UUIDv7 (RFC 9562, section 5.7) that is greater than those before it in this process. */
export function uuid7(): string {
  if (used === pool.length) {
    randomFillSync(pool)
    used = 0
  }
  const random = pool.subarray(used, used + 16)
  used += 16
  const now = Date.now()
  if (now > milliseconds) {
    milliseconds = now
    // Half of what there is, so that there is room to count (section 6.2, method 1).
    sequence = random.readUInt32BE() >>> 1
  } else {
    sequence += 1
  }
  return v7({ random, msecs: milliseconds, seq: sequence })
}
