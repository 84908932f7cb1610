/** The options of every command that can print its result as JSON. */
export interface OutputOptions {
  json?: boolean
}
