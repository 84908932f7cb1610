import Type, { type TSchema } from 'typebox'
import type { AcceptedBatch, BatchEntry } from '../../accept/accept-batch.ts'
import type { Operation } from '../../operation.ts'
import type { Route } from '../../operation-options.ts'
import { suggest } from '../../primitives/suggest.ts'
import type { TimeSlice } from '../../primitives/time-slice.ts'
import { uuid7 } from '../../primitives/uuid.ts'
import { findViolations } from '../../validation.ts'
import { isInformative, type SchemaViolation, toViolation } from '../protocol/violation.ts'
import type { BatchBody } from './body.ts'
import { checkParams } from './params.ts'
import { BatchViolations } from './violations.ts'

/** The key of an item. */
export const Key = Type.String({
  pattern: '^[ -~]{1,255}$',
  description:
    'Among the jobs of an operation and a principal with the same key, only the first that succeeds has an effect. ' +
    '1 to 255 printable ASCII characters.',
})

const closed = { additionalProperties: false }

const Item = Type.Object(
  {
    operation: Type.String(),
    input: Type.Optional(Type.Unknown()),
    params: Type.Optional(Type.Object({})),
    key: Type.Optional(Key),
  },
  closed,
)
const OnEnd = Type.Omit(Item, ['key'], closed)
const Rest = Type.Object({ onEnd: Type.Optional(Type.Unknown()), allowFailures: Type.Optional(Type.Boolean()) }, closed)

/** What the jobs of a batch have in common. */
export type BatchRequest = Pick<AcceptedBatch, 'principal' | 'webhookEndpointId'>

/**
 * Checks each item of a batch as the route of its operation would check it. Lets the event loop do other work between
 * the items.
 *
 * @throws ProblemError invalid-body
 */
export async function checkBatch(
  { items, rest }: BatchBody,
  request: BatchRequest,
  { operations, pause }: { operations: ReadonlyMap<string, Operation>; pause: TimeSlice },
): Promise<AcceptedBatch> {
  const id = uuid7()
  const checker = new Checker(operations, request)
  const { onEnd, allowFailures = false } = checker.checkRest(rest)
  const entries: BatchEntry[] = []
  for (const [index, { value, bytes }] of items.entries()) {
    const entry = checker.checkItem(`/items/${index}`, value, bytes)
    if (entry) entries.push(entry)
    const turn = pause()
    if (turn) await turn
  }
  checker.violations.throwIfAny()
  return { ...request, id, entries, onEnd, allowFailures }
}

class Checker {
  readonly violations = new BatchViolations()
  readonly #operations: ReadonlyMap<string, Operation>
  readonly #request: BatchRequest

  constructor(operations: ReadonlyMap<string, Operation>, request: BatchRequest) {
    this.#operations = operations
    this.#request = request
  }

  checkRest(value: unknown): { onEnd?: BatchEntry | undefined; allowFailures?: boolean } {
    if (!this.#matches(Rest, value, '')) return {}
    const { onEnd, ...others } = value
    return { ...others, onEnd: onEnd === undefined ? undefined : this.#checkOnEnd(onEnd) }
  }

  #checkOnEnd(value: unknown): BatchEntry | undefined {
    if (!this.#matches(OnEnd, value, '/onEnd')) return undefined
    return this.#toEntry('/onEnd', value, Number.POSITIVE_INFINITY)
  }

  checkItem(pointer: string, value: unknown, bytes: number): BatchEntry | undefined {
    if (!this.#matches(Item, value, pointer)) return undefined
    const entry = this.#toEntry(pointer, value, bytes)
    if (entry?.operation.idempotencyKey === 'required' && value.key === undefined) {
      this.#add(pointer, 'required', `must have a key, because the operation ${value.operation} requires one`)
    }
    return entry
  }

  #toEntry(pointer: string, item: Type.Static<typeof Item>, bytes: number): BatchEntry | undefined {
    const operation = this.#findOperation(pointer, item.operation)
    if (!operation) return undefined
    const input = item.input === undefined && operation.route.method === 'DELETE' ? {} : item.input
    if (input === undefined) this.#add(pointer, 'required', 'must have required properties input')
    else this.#checkInput(`${pointer}/input`, operation, input, bytes)
    const { params, violations } = checkParams(operation, item.params)
    this.violations.addAll(`${pointer}/params`, violations)
    return { ...this.#request, id: uuid7(), operation, input, params, key: item.key }
  }

  #findOperation(pointer: string, name: string): (Operation & { route: Route }) | undefined {
    const operation = this.#operations.get(name)
    if (operation?.route) return operation as Operation & { route: Route }
    const names = [...this.#operations.values()].filter(({ route }) => route).map((one) => one.name)
    const similar = suggest(name, names)
    const question = similar ? `. Did you mean ${similar}?` : ''
    this.#add(`${pointer}/operation`, 'operation', `must be the name of an operation that has a route${question}`)
  }

  #checkInput(pointer: string, operation: Operation, input: unknown, bytes: number): void {
    const { schemas, bodyLimit } = operation
    if (bytes > bodyLimit && Buffer.byteLength(JSON.stringify(input)) > bodyLimit) {
      this.#add(pointer, 'maxBytes', `must have at most ${bodyLimit} bytes`)
    } else {
      this.#matches(schemas.input, input, pointer)
    }
  }

  #matches<Schema extends TSchema>(schema: Schema, value: unknown, pointer: string): value is Type.Static<Schema> {
    const violations = findViolations(schema, value) as SchemaViolation[]
    this.violations.addAll(pointer, violations.filter(isInformative).map(toViolation))
    return violations.length === 0
  }

  #add(pointer: string, keyword: string, message: string): void {
    this.violations.add({ pointer, keyword, message })
  }
}
