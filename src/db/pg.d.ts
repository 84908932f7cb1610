// A module of pg that its types leave out.
declare module 'pg/lib/utils.js' {
  const utils: {
    /** Encodes a value as it is sent. @throws Error for a value that cannot be encoded */
    prepareValue(value: unknown): string | Buffer | null
  }
  export default utils
}
