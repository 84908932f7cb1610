import type { Database } from '../db/database.ts'
import { ProblemError } from '../errors.ts'
import type { Operation } from '../operation.ts'
import { BoundedMap } from '../primitives/bounded-map.ts'
import { countBacklog } from '../queue/due-jobs.ts'

/** How long a count with room left is used, in milliseconds. Jobs of other processes are not in it. */
const roomCacheMs = 1_000
/** How long a count without room is used, in milliseconds. Most jobs that were accepted since are then committed. */
const fullCacheMs = 100
const maxRemembered = 10_000

interface Room {
  readAt: number
  /** How many more jobs may wait. */
  left: Promise<number>
  /** How many jobs this process has accepted since. */
  taken: number
}

const rooms = new WeakMap<Database, BoundedMap<Room>>()

/**
 * Checks that, with the new jobs, no more than `maxBacklogPerPrincipal` jobs of the principal would wait in the backlog
 * of the operation.
 *
 * @throws ProblemError principal-backlog-full
 */
export async function takePrincipalRoom(
  database: Database,
  { name, maxBacklogPerPrincipal: maxJobs }: Operation,
  principal: string,
  newJobs = 1,
): Promise<void> {
  if (maxJobs === undefined) return
  const byPrincipal = rooms.get(database) ?? new BoundedMap<Room>(maxRemembered)
  rooms.set(database, byPrincipal)
  const key = `${name}\0${principal}`
  const read = () => {
    const left = countBacklog(database, name, principal, maxJobs).then((waiting) => maxJobs - waiting)
    const room = { readAt: performance.now(), left, taken: 0 }
    // A failed query is not remembered, because it would also fail later requests.
    left.catch(() => byPrincipal.delete(key))
    byPrincipal.set(key, room)
    return room
  }
  const find = (maxAgeMs: number) => {
    const known = byPrincipal.get(key)
    return known && performance.now() - known.readAt <= maxAgeMs ? known : read()
  }
  if (await take(find(roomCacheMs), newJobs)) return
  // Jobs may have started since the count. Another request may have counted again in the meantime.
  if (await take(find(fullCacheMs), newJobs)) return
  throw new ProblemError('principal-backlog-full', undefined, { retryAfterSeconds: 5 })
}

async function take(room: Room, newJobs: number): Promise<boolean> {
  const left = await room.left
  if (room.taken + newJobs > left) return false
  room.taken += newJobs
  return true
}
