import { type Acceptance, Refusal } from '../acceptance.ts'
import { setPrincipal } from '../jobs/row-security.ts'
import { InvalidLimitKey, limitKeyOf } from '../limit.ts'
import type { AnyTransaction, Operation } from '../operation.ts'
import { readable } from '../primitives/thrown.ts'
import { assertPayload } from '../validation.ts'
import { isLast, type RequestGroup } from './coalesce.ts'
import { type AcceptEntry, EntriesRefused } from './entry.ts'

/** Requests that get the same job. */
export type Group = RequestGroup<AcceptEntry>
/** What `accept` returned for the last entry of each group. */
export type Acceptances = ReadonlyMap<Group, Acceptance<unknown>>

/**
 * Calls the `accept` of each operation with all entries of the operation. Entries that share a job are in separate calls,
 * so that each entry sees the payload of the entry before it. Returns what accepted the last entry of each group.
 */
export async function writeDomainRows(trx: AnyTransaction, groups: readonly Group[]): Promise<Acceptances> {
  const acceptances = new Map<Group, Acceptance<unknown>>()
  const refusals = new Map<string, Refusal>()
  for (const [operation, ofOperation] of Map.groupBy(groups, (group) => group.operation)) {
    const maxCalls = Math.max(...ofOperation.map(({ entries }) => entries.length))
    for (let call = 0; call < maxCalls; call++) {
      const asked = ofOperation.filter((group) => group.entries[call] && needsAccept(group, acceptances))
      const answers = await callAccept(operation, trx, asked, call, acceptances)
      for (const [index, group] of asked.entries()) {
        const entry = group.entries[call] as AcceptEntry
        const answer = answers[index]
        if (!answer)
          throw new Error(`accept of '${operation.name}' must return one result for each entry, in the same order`)
        if (answer instanceof Refusal) {
          refusals.set(entry.id, answer)
          continue
        }
        if (answer.runAt && isLast(operation)) throw new TypeError(runAtRefused(operation))
        // If the payload is the unchanged input, it was already validated together with the request.
        if (!isInput(answer.payload, entry)) assertPayload(operation, answer.payload)
        const refusal = refusalOfLimitKey(operation, answer.payload)
        if (refusal) refusals.set(entry.id, refusal)
        else acceptances.set(group, answer)
      }
    }
  }
  if (refusals.size > 0) throw new EntriesRefused(refusals)
  return acceptances
}

const runAtRefused = ({ name }: Operation) =>
  `accept of '${name}' must not return runAt: with coalesce.mode 'last', a job starts at the end of its window`

/** A payload without a valid limit key is the fault of the request: the key is made from what the client sent. */
function refusalOfLimitKey(operation: Operation, payload: unknown): Refusal | undefined {
  try {
    limitKeyOf(operation, payload)
    return undefined
  } catch (error) {
    if (error instanceof InvalidLimitKey) return new Refusal(400, 'invalid-body', error.message)
    throw error
  }
}

/** With the mode `first`, only the request that creates the job writes domain rows. */
const needsAccept = (group: Group, acceptances: Acceptances) =>
  isLast(group.operation) || (!group.exists && !acceptances.has(group))

/** @param call the position in its group of the entry to pass */
async function callAccept(
  operation: Operation,
  trx: AnyTransaction,
  groups: readonly Group[],
  call: number,
  acceptances: Acceptances,
): Promise<(Acceptance<unknown> | Refusal)[]> {
  if (groups.length === 0) return []
  if (!operation.accept) return groups.map(({ entries }) => ({ payload: entries[call]?.input }))
  const given = groups.map((group) => {
    const { input, params, principal } = group.entries[call] as AcceptEntry
    return { id: group.jobId, input, params, principal, ...replacedPayload(group, acceptances.get(group)) }
  })
  await setPrincipal(trx, operation, given)
  try {
    return await operation.accept(trx, given)
  } catch (error) {
    const thrown = readable(error)
    // Only `refuse` declares an answer. An HTTP client of the app may have put the status of another server here.
    if (Object(thrown).statusCode === undefined) throw thrown
    throw new Error(`accept of '${operation.name}' failed`, { cause: thrown })
  }
}

function replacedPayload(group: Group, previous: Acceptance<unknown> | undefined): { replaces?: unknown } {
  // As JSON, like a payload that has been in the queue.
  if (previous) return { replaces: JSON.parse(JSON.stringify(previous.payload ?? null)) }
  return group.exists ? { replaces: group.payload } : {}
}

const isInput = (payload: unknown, { operation: { schemas }, input }: AcceptEntry) =>
  payload === input && schemas.payload === schemas.input
