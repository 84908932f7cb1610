/**
 * Formats an error for the terminal. For a common error, the text says what to do. For any other error, the text is the
 * message or, with LOG_LEVEL=debug, the stack.
 */
export function formatError(error: unknown): string {
  if (!(error instanceof Error)) return String(error)
  const { message, code, port } = error as NodeJS.ErrnoException & { port?: number }
  if (code === 'EADDRINUSE') {
    return `Port ${port} is in use. Stop the program that listens on it, or set another port with PORT or WORKER_PORT.`
  }
  if (code === 'ECONNREFUSED') {
    return `Postgres does not answer at the address in DATABASE_URL (${message}). Start it, or correct DATABASE_URL.`
  }
  // SQLSTATE class 28: wrong user or password. Class 3D: the database does not exist.
  if (/^(28|3D)\w{3}$/.test(code ?? '')) return `Postgres refused the connection: ${message}. Correct DATABASE_URL.`
  return process.env.LOG_LEVEL === 'debug' ? (error.stack ?? message) : message
}
