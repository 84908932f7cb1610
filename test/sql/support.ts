/** An error of Postgres. */
export interface SqlError {
  code: string
  message: string
  hint?: string
}

/** Returns the error that a statement fails with. */
export async function sqlError(statement: Promise<unknown>): Promise<SqlError> {
  const error = await statement.then(
    () => undefined,
    (error: unknown) => error,
  )
  if (error === undefined) throw new Error('The statement did not fail')
  return error as SqlError
}
