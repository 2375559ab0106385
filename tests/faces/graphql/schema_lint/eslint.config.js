// The recommended rules of @graphql-eslint for schemas, and the exceptions with their reasons.
import graphql from '@graphql-eslint/eslint-plugin';

export default [
  {
    files: ['**/*.graphql'],
    plugins: { '@graphql-eslint': graphql },
    languageOptions: {
      parser: graphql.parser,
      parserOptions: { graphQLConfig: { schema: './schema.graphql' } },
    },
    rules: {
      ...graphql.configs['flat/schema-recommended'].rules,
      // A cache merges objects with the same id, so only records have one. The types below are not
      // records: a cache that merged two of their objects would show wrong data.
      '@graphql-eslint/strict-id-in-types': [
        'error',
        {
          exceptions: {
            types: [
              'AdvertiserPage', // The same filters may return another page later.
              'ContactPage',
              'ContactPreview', // The contact does not exist yet.
              'CreateContactsPayload', // A part of one answer.
              'InputProblem', // A part of one error.
              'Pagination', // A part of one page.
              'SubmissionResult', // A part of one answer.
              'Viewer', // There is at most one, and ids of keys are for the operator.
            ],
            suffixes: ['Error'], // A part of one answer, whose `requestId` the caller may choose.
          },
        },
      ],
    },
  },
];
