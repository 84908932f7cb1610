import type { Params } from './routes.ts'

/** What a request for an operation needs, and what its job returns. */
export interface Call {
  input: unknown
  params: unknown
  result: unknown
}

/** An operation that the server has defined with `defineOperation`. */
interface Defined {
  readonly name: string
  readonly schemas: object
  readonly types?: { request: unknown; result: unknown }
}

/** An operation as openapi-typescript describes it. */
interface Described {
  parameters: object
  requestBody?: object
  responses: { 202: { content: object } }
}

type CallOfDefined<O> = O extends {
  readonly types?: { request: { input: infer Input; params: infer P }; result: infer Result }
}
  ? { input: Input; params: P; result: [Result] extends [undefined] ? unknown : Result }
  : never

interface Json<Body> {
  content: { 'application/json': Body }
}

type InputOf<O> = O extends { requestBody?: infer Body }
  ? NonNullable<Body> extends Json<infer Input>
    ? Input
    : never
  : never

/** The 200 of an operation is its monitor or, on request, its inline result. */
type DescribedResult<O> = O extends { responses: { 200: Json<infer Body> } }
  ? Exclude<Body, { sequence: number; links: object }>
  : never

type CallOfDescribed<O> = {
  input: InputOf<O>
  params: O extends { parameters: { path: infer Path } } ? Path : undefined
  result: [DescribedResult<O>] extends [never] ? unknown : DescribedResult<O>
}

/** Whether a described operation has a body. Those without are the requests of Accepted itself, for example cancel. */
type HasBody<O> = [InputOf<O>] extends [never] ? false : true

type CallsByName<Contract> = {
  [Key in keyof Contract as Contract[Key] extends Defined
    ? Contract[Key]['name']
    : Contract[Key] extends Described
      ? HasBody<Contract[Key]> extends true
        ? Key
        : never
      : never]: Contract[Key] extends Defined ? CallOfDefined<Contract[Key]> : CallOfDescribed<Contract[Key]>
}

type Method = 'post' | 'put' | 'patch' | 'delete'

type RouteOf<Contract> = {
  [Path in keyof Contract & string]: {
    [M in Method]: Contract[Path] extends { [K in M]: Described }
      ? HasBody<Contract[Path][M]> extends true
        ? `${Uppercase<M>} ${Path}`
        : never
      : never
  }[Method]
}[keyof Contract & string]

type CallsByRoute<Contract> = {
  [Route in RouteOf<Contract>]: Route extends `${infer M} ${infer Path extends keyof Contract & string}`
    ? CallOfDescribed<Contract[Path][Lowercase<M> & keyof Contract[Path]]>
    : never
}

/** The calls without a type for the API: anything goes. */
type AnyCalls = Record<string, { input: unknown; params: Params | undefined; result: unknown }>

/**
 * The operations of an API. The contract is the type of the module with the operations; or `operations` or `paths`, which
 * openapi-typescript makes from `/openapi.json`. With `paths`, operations are named by their routes: `POST /todos`.
 */
export type Calls<Contract> = unknown extends Contract
  ? AnyCalls
  : [keyof Contract & `/${string}`] extends [never]
    ? CallsByName<Contract>
    : CallsByRoute<Contract>

export type OperationName<Contract> = keyof Calls<Contract> & string

type CallNamed<Contract, Name extends OperationName<Contract>> = Calls<Contract>[Name] & Call

export type InputFor<Contract, Name extends OperationName<Contract>> = CallNamed<Contract, Name>['input']
export type ResultFor<Contract, Name extends OperationName<Contract>> = CallNamed<Contract, Name>['result']

/** The path parameters, which are required if the operation has any. */
export type WithParams<Contract, Name extends OperationName<Contract>> = undefined extends CallNamed<
  Contract,
  Name
>['params']
  ? { params?: CallNamed<Contract, Name>['params'] }
  : { params: CallNamed<Contract, Name>['params'] }

/** An item of a batch. Batches name operations, so there are no types for the items with the contract `paths`. */
export type BatchItem<Contract> = [keyof Contract & `/${string}`] extends [never]
  ? { [Name in OperationName<Contract>]: ItemFor<Contract, Name> }[OperationName<Contract>]
  : ItemFor<unknown, string>

type ItemFor<Contract, Name extends OperationName<Contract>> = WithParams<Contract, Name> & {
  operation: Name
  input: InputFor<Contract, Name>
  /** An idempotency key for this item alone. The key of the batch covers all its items. */
  key?: string
}
