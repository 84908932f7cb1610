// The types of pg leave out this module.
declare module 'pg/lib/utils.js' {
  const utils: {
    /** Encodes a value for sending. @throws Error when the value cannot be encoded */
    prepareValue(value: unknown): string | Buffer | null
  }
  export default utils
}
